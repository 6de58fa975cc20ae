"""The mean over tasks that are ranked by AUC. Loads no torch.

MRNet's official metric is the mean of its three AUCs (Bien et al. 2018, PLOS Med 15(11)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ssl3d.evaluate.statistics.measures import primary
from ssl3d.results.results import Evaluated
from ssl3d.tables.entry import MEAN, Entry, Key


def means(found: Sequence[Entry]) -> list[Entry]:
    """Return the entry of the mean over tasks for each data set, plane, protocol, method, backbone and settings.

    Only tasks with one class per case that are ranked by AUC count. There is no mean if a plane has only one such task,
    or if an entry lacks one of them or was evaluated on other test cases for another task.
    """
    kinds = {
        (entry.key.data, entry.key.task): one.record.data.task
        for entry in found
        for one in (*entry.done, *entry.unfinished)
    }
    groups: dict[Key, dict[str, Entry]] = {}
    tasks: dict[tuple[str, str, str], set[str]] = {}
    for entry in found:
        task = kinds.get((entry.key.data, entry.key.task))  # a task of which all failed is of unknown kind
        if task is not None and task.categorical and primary(task.kind).name == "auc":
            groups.setdefault(entry.key._replace(task=""), {})[entry.key.task] = entry
            tasks.setdefault(_place(entry.key), set()).add(entry.key.task)
    return [
        _mean(key, dict(sorted(group.items())))
        for key, group in groups.items()
        if set(group) == tasks[_place(key)] and len(group) > 1 and _same_cases(group)
    ]


def _place(key: Key) -> tuple[str, str, str]:
    return key.data, key.plane, key.protocol


def _same_cases(group: Mapping[str, Entry]) -> bool:
    """Return whether the tasks with a complete seed were evaluated on the same cases, fold by fold."""
    return len({tuple(part.cases for part in entry.parts) for entry in group.values() if entry.parts}) <= 1


def _mean(key: Key, group: Mapping[str, Entry]) -> Entry:
    """Combine one entry per task into one; only seeds that are complete for every task count."""
    members = list(group.values())
    seeds = tuple(seed for seed in members[0].seeds if all(seed in entry.seeds for entry in members))
    notes = [f"{task}: {note}" for task, entry in group.items() for note in entry.notes]
    lost = sorted({seed for entry in members for seed in entry.seeds} - set(seeds))
    notes += [f"seed {seed} is left out: it is not complete for every task" for seed in lost]

    def counts(one: Evaluated) -> bool:
        return one.encoder.recipe.seed in seeds

    return Entry(
        key._replace(task=MEAN + ", ".join(group)),
        seeds,
        tuple(one for entry in members for one in entry.done if counts(one)),
        tuple(one for entry in members for one in entry.failed),
        tuple(part.of([e.seeds.index(seed) for seed in seeds]) for e in members for part in e.parts if seeds),
        tuple(notes),
        tuple(one for e in members for one in (*e.unfinished, *e.done) if not counts(one)),
    )

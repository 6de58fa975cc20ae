"""The mean over tasks: MRNet's official metric is the mean of its three AUCs (Bien et al. 2018, PLOS Med 15(11))."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ssl3d.tables.entry import MEAN, Entry, Key


def means(found: Sequence[Entry]) -> list[Entry]:
    """Return an entry of the mean over tasks for each plane, protocol, method, backbone and settings.

    There is none where a plane has one task only, or where an entry lacks one of them, or was judged on other test
    cases for another task.
    """
    groups: dict[Key, dict[str, Entry]] = {}
    tasks: dict[str, set[str]] = {}
    for entry in found:
        groups.setdefault(entry.key._replace(task=""), {})[entry.key.task] = entry
        tasks.setdefault(entry.key.plane, set()).add(entry.key.task)
    whole = [(key, group) for key, group in groups.items() if set(group) == tasks[key.plane] and len(group) > 1]
    return [_mean(key, dict(sorted(group.items()))) for key, group in whole if _same_cases(group)]


def _same_cases(group: Mapping[str, Entry]) -> bool:
    """Whether those tasks that have a finished seed were judged on the same cases, fold by fold."""
    return len({tuple(part.cases for part in entry.parts) for entry in group.values() if entry.parts}) <= 1


def _mean(key: Key, group: Mapping[str, Entry]) -> Entry:
    """One entry out of one a task; only seeds count that are finished for every task."""
    members = list(group.values())
    seeds = tuple(seed for seed in members[0].seeds if all(seed in entry.seeds for entry in members))
    notes = [f"{task}: {note}" for task, entry in group.items() for note in entry.notes]
    lost = sorted({seed for entry in members for seed in entry.seeds} - set(seeds))
    notes += [f"seed {seed} is left out: it is not finished for every task" for seed in lost]
    return Entry(
        key._replace(task=MEAN + ", ".join(group)),
        seeds,
        tuple(cell for entry in members for cell in entry.done if cell.recipe.seed in seeds),
        tuple(cell for entry in members for cell in entry.failed),
        tuple(part.of([e.seeds.index(seed) for seed in seeds]) for e in members for part in e.parts if seeds),
        tuple(notes),
        tuple(c for e in members for c in (*e.unfinished, *e.done) if c.recipe.seed not in seeds),
    )

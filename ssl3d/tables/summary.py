"""The summary over tasks: mean rank and mean score of each method, and how often one method beats another.

Each data set, task and plane is one task of the summary, with equal weight. Intervals are by bootstrap: patients are
resampled within a data set, together for all its tasks and planes, and so are the seeds of each method, whose variance
counts without the part that comes from the sample of patients. A score is replaced by its linear part, as in its own
interval (:mod:`ssl3d.evaluate.statistics.estimate`), so that no draw has to rank cases again. Of n, n - 1 are drawn,
with weight n/(n - 1), which makes variances unbiased (Rao & Wu 1988).

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ssl3d.evaluate.statistics.limits import AUC, ERROR
from ssl3d.tables.columns import Columns, ColumnType, joined, typed
from ssl3d.tables.entry import Entry
from ssl3d.tables.standings import estimate_of

DRAWS = 2000
SEED = 20220800  # of the draws: the same results give the same summary
LEVEL = 0.95
COLUMNS: Columns = {
    "protocol": ColumnType("str", "how encoders were evaluated: linear, knn, attentive, finetune, or another plugin"),
    "method": ColumnType("str", "name of the method"),
    "backbone": ColumnType("str", "name of the backbone"),
    "mean_rank": ColumnType(
        "float64", "rank by score among the methods of the summary, mean over tasks; 1 is best; none with one seed"
    ),
    "rank_low": ColumnType("float64", "lower 95% limit of mean_rank, over patients and seeds"),
    "rank_high": ColumnType("float64", "upper 95% limit of mean_rank"),
    "metric": ColumnType(
        "str", "what is averaged; missing if tasks are ranked by different metrics, or have errors in different units"
    ),
    "mean_score": ColumnType("float64", "mean over tasks of the score; missing as above"),
    "score_low": ColumnType("float64", "lower 95% limit of mean_score, over patients and seeds"),
    "score_high": ColumnType("float64", "upper 95% limit of mean_score"),
    "wins": ColumnType(
        "float64", "share of the draws, tasks and other methods in which it scores better; missing with one seed"
    ),
    "tasks": ColumnType("Int64", "number of data sets, tasks and planes that the summary is over"),
    "seeds": ColumnType("Int64", "smallest number of complete seeds; 1: the variance of seeds is not included"),
    "names": ColumnType("str", "these data sets, tasks and planes"),
    "left_out": ColumnType("str", "methods that are not complete in every one of them"),
    "synthetic": ColumnType("boolean", "whether any of the data are generated"),
}
WIN_COLUMNS: Columns = {
    "protocol": ColumnType("str", "how encoders were evaluated"),
    "method_a": ColumnType("str", "name of a method"),
    "backbone_a": ColumnType("str", "its backbone"),
    "method_b": ColumnType("str", "name of another one"),
    "backbone_b": ColumnType("str", "its backbone"),
    "wins": ColumnType(
        "float64", "share of the draws and tasks in which A scores better than B; a tie counts one half"
    ),
    "tasks": ColumnType("Int64", "number of data sets, tasks and planes"),
}
Name = tuple[str, str]  # method and backbone
Where = tuple[str, str, str]  # data set, task, plane


@dataclass(frozen=True, eq=False)
class Drawn:
    """The methods that are complete in every task of one protocol, with their scores in each draw.

    Attributes:
        protocol: name of the protocol.
        entries: by task, then by method.
        draws: (T, M, draws), larger is better.
        left_out: methods that are not complete in every task.
    """

    protocol: str
    entries: Mapping[Where, Mapping[Name, Entry]]
    draws: np.ndarray
    left_out: tuple[Name, ...] = ()

    @property
    def names(self) -> list[Name]:
        """The methods, M."""
        return list(next(iter(self.entries.values())))

    @property
    def about_methods(self) -> bool:
        """Whether every method has several seeds; otherwise encoders are compared, which have no rank."""
        return all(len(entry.seeds) > 1 for found in self.entries.values() for entry in found.values())

    @property
    def metric(self) -> str | None:
        """The metric of all tasks; None if they have several, or errors in several units."""
        every = [entry for found in self.entries.values() for entry in found.values()]
        units = {entry.done[0].record.data.task.unit for entry in every}
        if len({entry.metric for entry in every}) > 1 or (every[0].measure.scale is ERROR and len(units) > 1):
            return None
        return every[0].metric

    @cached_property
    def observed(self) -> np.ndarray:
        """Scores (T, M), larger is better."""
        return np.array([[_merit(entry) for entry in found.values()] for found in self.entries.values()])

    @cached_property
    def ranks(self) -> np.ndarray:
        """Mean rank over tasks in each draw, (M, draws)."""
        return np.asarray(rankdata(-self.draws, axis=1).mean(axis=0))

    @cached_property
    def wins(self) -> np.ndarray:
        """Share of tasks and draws in which a method (row) beats another one (column), (M, M)."""
        methods = np.moveaxis(self.draws, 1, 0)  # (M, T, draws)
        return np.array([((own > methods) + 0.5 * (own == methods)).mean(axis=(1, 2)) for own in methods])


def drawn_over_tasks(entries: Sequence[Entry]) -> list[Drawn]:
    """Return one value per protocol with several tasks and methods, in the order of the entries.

    A method counts if every task has exactly one complete entry of it, with its backbone. Means over tasks and combined
    planes are left out.
    """
    found: dict[str, dict[Where, dict[Name, list[Entry]]]] = {}
    for entry in entries:
        if entry.score is not None and not (entry.key.is_mean or entry.key.is_combined):
            of_task = found.setdefault(entry.key.protocol, {}).setdefault(entry.key.table, {})
            of_task.setdefault((entry.key.method, entry.key.backbone), []).append(entry)
    made = []
    for protocol, tasks in found.items():
        whole = {
            where: {name: of[0] for name, of in methods.items() if len(of) == 1} for where, methods in tasks.items()
        }
        names = [name for name in next(iter(whole.values())) if all(name in methods for methods in whole.values())]
        if len(whole) > 1 and len(names) > 1:
            common = {where: {name: methods[name] for name in names} for where, methods in whole.items()}
            others = {name for methods in tasks.values() for name in methods} - set(names)
            made.append(Drawn(protocol, common, _draw(common), tuple(sorted(others))))
    return made


def summary(drawn: Sequence[Drawn]) -> pd.DataFrame:
    """Return one row per protocol and method, the best mean rank first; see :data:`COLUMNS`."""
    return typed([row for one in drawn for row in _rows(one)], COLUMNS)


def wins(drawn: Sequence[Drawn]) -> pd.DataFrame:
    """Return one row per protocol and ordered pair of methods, all with several seeds; see :data:`WIN_COLUMNS`."""
    rows = [
        {
            **{"protocol": one.protocol, "method_a": a[0], "backbone_a": a[1], "method_b": b[0], "backbone_b": b[1]},
            **{"wins": one.wins[i, j], "tasks": len(one.entries)},
        }
        for one in drawn
        if one.about_methods
        for i, a in enumerate(one.names)
        for j, b in enumerate(one.names)
        if i != j
    ]
    return typed(rows, WIN_COLUMNS)


def _rows(one: Drawn) -> Iterator[dict[str, Any]]:
    ranks = rankdata(-one.observed, axis=1).mean(axis=0)
    rank_limits = np.quantile(one.ranks, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=-1)
    for m in np.argsort(ranks, kind="stable"):
        name, found = one.names[m], [methods[one.names[m]] for methods in one.entries.values()]
        row: dict[str, Any] = {
            **{"protocol": one.protocol, "method": name[0], "backbone": name[1], "metric": one.metric},
            **{"tasks": len(one.entries), "seeds": min(len(entry.seeds) for entry in found)},
            "names": joined(", ".join(filter(None, where)) for where in one.entries),
            "left_out": joined(" on ".join(other) for other in one.left_out),
            "synthetic": any(entry.done[0].record.data.synthetic for entry in found),
        }
        if one.about_methods:
            row |= {"mean_rank": ranks[m], "rank_low": rank_limits[0, m], "rank_high": rank_limits[1, m]}
            row["wins"] = (one.wins[m].sum() - 0.5) / (len(one.names) - 1)
        if one.metric is not None:
            row |= _mean_score(found, one.draws[:, m].mean(axis=0))
        yield row


def _mean_score(found: Sequence[Entry], draws: np.ndarray) -> dict[str, float]:
    """Return the mean score of a method over tasks, with limits on the scale of the score."""
    measure, score = found[0].measure, float(np.mean([entry.score for entry in found]))
    smallest = min(estimate_of(entry).smallest for entry in found)
    more = {"averaged": len(found)} if measure.scale is AUC else {}
    low, high = measure.scale.limits(np.array(score), np.array(draws.std()), smallest, LEVEL, **more)
    return {"mean_score": score, "score_low": float(low), "score_high": float(high)}


def _merit(entry: Entry) -> float:
    assert entry.score is not None  # chosen so
    return entry.measure.sign * entry.score


def _draw(entries: Mapping[Where, Mapping[Name, Entry]]) -> np.ndarray:
    """Return the score of every task and method in every draw, (T, M, draws), larger is better."""
    rng = np.random.default_rng(SEED)
    patients: dict[str, dict[str, int]] = {}  # by data set: place of each patient in the draws
    for (data, _, _), methods in entries.items():
        known = patients.setdefault(data, {})
        for patient in np.concatenate(_patients(next(iter(methods.values())))):
            known.setdefault(patient, len(known))
    of_patients = {data: _weights(rng, len(known)) for data, known in patients.items()}
    of_seeds: dict[tuple[Name, tuple[int, ...]], np.ndarray] = {}  # one encoder may serve several tasks and data sets
    found = []
    for (data, _, _), methods in entries.items():
        for name, entry in methods.items():
            key = name, entry.seeds
            if key not in of_seeds:
                of_seeds[key] = _weights(rng, len(entry.seeds))
            found.append(_scores(entry, patients[data], of_patients[data], of_seeds[key]))
    return np.stack(found).reshape(len(entries), -1, DRAWS)


def _scores(entry: Entry, place: Mapping[str, int], of_patients: np.ndarray, of_seeds: np.ndarray) -> np.ndarray:
    """Return the score of an entry in every draw, (draws,), larger is better.

    Args:
        entry: with S seeds.
        place: column of each patient.
        of_patients: (draws, P) weights.
        of_seeds: (draws, S) weights.
    """
    estimate = estimate_of(entry)
    scores = estimate.scores  # (S,), then (draws, S)
    for block, ids in zip(estimate.blocks, _patients(entry), strict=True):
        scores = scores + (of_patients[:, [place[patient] for patient in ids]] - 1) @ block.parts.sum(axis=0)
    share = 0.0  # of the variance over seeds that is not of the patients
    if len(entry.seeds) > 1:
        of_encoders, of_sample = (float(part) for part in estimate.seed_variances)
        share = float(np.clip(1 - of_sample / of_encoders, 0, 1)) if of_encoders > 0 else 0.0
        share = 1.0 if np.isnan(share) else share
    return np.asarray(entry.measure.sign * (scores * (1 + np.sqrt(share) * (of_seeds - 1))).mean(axis=1))


def _patients(entry: Entry) -> list[np.ndarray]:
    """Return the patients of each block of an entry, in the order of its contributions."""
    first = [parts[0] for parts in entry.blocks.values()]
    return [np.array(part.cases) if part.patients is None else np.unique(part.patients) for part in first]


def _weights(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return the weights of n units in every draw, (draws, n), with mean 1; a single unit does not vary."""
    if n == 1:
        return np.ones((DRAWS, 1))
    return rng.multinomial(n - 1, np.full(n, 1 / n), size=DRAWS) * (n / (n - 1))

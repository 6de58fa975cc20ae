"""An entry: the content of one leaderboard row, and what distinguishes it from others. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ssl3d.evaluate.statistics.measures import MEASURES, Measure, primary
from ssl3d.results.results import Evaluated, Failed

PLUS = " + "  # joins the names of combined planes
MEAN = "mean of "  # prefix of the name of several tasks


class Key(NamedTuple):
    """What distinguishes entries.

    Attributes:
        data: data set with its variant, without its plane.
        task: predicted task; several, after :data:`MEAN`.
        plane: plane of the exam; several, joined by :data:`PLUS`; "" if there are none.
        protocol: its name.
        method: its name.
        backbone: its name.
        settings: hash of everything else that decides the numbers, including code, except seed and fold.
    """

    data: str
    task: str
    plane: str
    protocol: str
    method: str
    backbone: str
    settings: str

    @property
    def table(self) -> tuple[str, str, str]:
        """Data set, task and plane, which identify a table."""
        return self.data, self.task, self.plane

    @property
    def compared(self) -> tuple[str, str, str, str]:
        """Data set, task, plane and protocol: entries with equal values are compared with each other."""
        return self.data, self.task, self.plane, self.protocol

    @property
    def is_mean(self) -> bool:
        """Whether the entry is a mean over tasks."""
        return self.task.startswith(MEAN)

    @property
    def is_combined(self) -> bool:
        """Whether the entry is of several planes combined."""
        return PLUS in self.plane


@dataclass(frozen=True)
class Part:
    """Predictions of one task, or of one label of a multi-label task, on the test cases of one fold.

    Attributes:
        cases: N ids in alphabetical order; equal in parts with the same cases.
        labels: (N,).
        probabilities: (S, N, K), one layer per seed.
        scores: by measure, S values, each None if it is undefined.
        patients: (N,) patient of each case; None: each case has its own patient.
        name: label of a multi-label task; "" otherwise.
    """

    cases: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    scores: Mapping[str, tuple[float | None, ...]]
    patients: np.ndarray | None = None
    name: str = ""

    def of(self, seeds: Sequence[int]) -> Part:
        """Return a subset of the seeds, by index."""
        scores = {name: tuple(values[i] for i in seeds) for name, values in self.scores.items()}
        return replace(self, probabilities=self.probabilities[list(seeds)], scores=scores)


@dataclass(frozen=True)
class Entry:
    """The content of one leaderboard row.

    Attributes:
        key: distinguishes it from others.
        seeds: seeds that are complete in every fold.
        done: their evaluations.
        failed: failed evaluations without a complete one of the same seed and fold.
        parts: one per fold, and per task or label if it is a mean over those; none if no seed is complete. The score
            is the mean over them.
        notes: notes for the reader of the row.
        unfinished: complete evaluations of seeds that lack a fold or a task.
        metric: name of the measure that is compared; by default the one that ranks methods on this kind of task.
        label: the only label of a multi-label task that is compared; "": the mean over labels.
    """

    key: Key
    seeds: tuple[int, ...]
    done: tuple[Evaluated, ...]
    failed: tuple[Failed, ...]
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()
    unfinished: tuple[Evaluated, ...] = ()
    metric: str = "auc"
    label: str = ""

    @property
    def measure(self) -> Measure:
        """The measure that is compared."""
        return MEASURES[self.metric]

    @property
    def primary(self) -> bool:
        """Whether the measure decides ranks and letters."""
        return self.metric == metric_of(self.done) and not self.label

    @cached_property
    def scores(self) -> list[float]:
        """Scores of the complete seeds, each the mean over the parts; empty if one of them is undefined."""
        known = [[score for score in part.scores[self.metric] if score is not None] for part in self.parts]
        if not self.parts or any(len(found) < len(self.seeds) for found in known):
            return []
        return [float(score) for score in np.mean(known, axis=0)]

    @property
    def score(self) -> float | None:
        """Mean score over the complete seeds."""
        return float(np.mean(self.scores)) if self.scores else None

    @property
    def further(self) -> list[Entry]:
        """The same entry by each further measure of its task, and by each label of a multi-label task."""
        measures = dict.fromkeys(name for part in self.parts for name in part.scores if name != self.metric)
        found = [replace(self, metric=name) for name in measures]
        labels = dict.fromkeys(part.name for part in self.parts if part.name)
        for label in labels if len(labels) > 1 else ():
            found.append(replace(self, label=label, parts=tuple(part for part in self.parts if part.name == label)))
        return found

    @property
    def blocks(self) -> dict[tuple[str, ...], list[Part]]:
        """Parts grouped by their cases; the cases of different blocks are disjoint."""
        found: dict[tuple[str, ...], list[Part]] = {}
        for part in self.parts:
            found.setdefault(part.cases, []).append(part)
        return found

    @property
    def labels(self) -> np.ndarray:
        """Labels (N,) of the test cases, fold by fold; (0,) for a mean over tasks or labels."""
        return np.concatenate([part.labels for part in self._one_task] or [np.zeros(0, np.int64)])

    @property
    def probabilities(self) -> np.ndarray:
        """Probabilities (S, N, K), in the order of :attr:`labels`."""
        return np.concatenate([part.probabilities for part in self._one_task] or [np.zeros((0, 0, 2))], axis=1)

    @property
    def _one_task(self) -> tuple[Part, ...]:
        return self.parts if len(self.blocks) == len(self.parts) else ()

    @property
    def cases(self) -> int:
        """Number of test cases in all folds."""
        return sum(map(len, self.blocks))

    @property
    def patients(self) -> int:
        """Number of patients of the test cases; folds share none."""
        return sum({one.record.recipe.fold: one.record.data.n_test_patients for one in self.done}.values())


def metric_of(group: Sequence[Evaluated]) -> str:
    """Return the name of the measure that ranks methods on the task of these evaluations; AUC if there are none."""
    return primary(group[0].record.data.task.kind).name if group else "auc"

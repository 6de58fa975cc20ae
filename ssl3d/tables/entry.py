"""An entry: what becomes one row of the leaderboard, and what tells it from others. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ssl3d.results.records import CellResult

PLUS = " + "  # joins the names of planes that were combined
MEAN = "mean of "  # begins the name of several tasks together


class Key(NamedTuple):
    """What tells entries apart. ``settings`` is the hash of everything else in the recipe but seed, fold and protocols."""

    protocol: str
    method: str
    backbone: str
    settings: str
    task: str
    plane: str

    @property
    def table(self) -> tuple[str, str, str]:
        """Entries of one task, plane and protocol are compared with each other."""
        return self.task, self.plane, self.protocol


@dataclass(frozen=True)
class Part:
    """Predictions for one task on the test cases of one fold.

    Attributes:
        cases: N ids, in the order of their names; parts with the same ones share their cases.
        labels: (N,).
        probabilities: (S, N, K), one layer a seed.
        aucs: S of them, None where a class is missing.
    """

    cases: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    aucs: tuple[float | None, ...]

    def of(self, seeds: Sequence[int]) -> Part:
        """Return some of the seeds, by their place."""
        return replace(self, probabilities=self.probabilities[list(seeds)], aucs=tuple(self.aucs[i] for i in seeds))


@dataclass(frozen=True)
class Entry:
    """What becomes one row of the leaderboard.

    Attributes:
        key: what tells it apart.
        seeds: those that are finished, every fold of them.
        done: their cells.
        failed: failed cells that none of the finished ones stands for.
        parts: a part for each fold, of each task where it is a mean over tasks; none if no seed is finished. The AUC is
            the mean over them.
        notes: what happened on the way.
        unfinished: finished cells of seeds that are not, for want of a fold or task.
    """

    key: Key
    seeds: tuple[int, ...]
    done: tuple[CellResult, ...]
    failed: tuple[CellResult, ...]
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()
    unfinished: tuple[CellResult, ...] = ()

    @property
    def protocol(self) -> str:
        """Name of the protocol."""
        return self.key.protocol

    @cached_property
    def aucs(self) -> list[float]:
        """AUCs of the finished seeds, each the mean over the parts; empty if there is none for one of them."""
        known = [[auc for auc in part.aucs if auc is not None] for part in self.parts]
        if not self.parts or any(len(found) < len(self.seeds) for found in known):
            return []
        return [float(auc) for auc in np.mean(known, axis=0)]

    @property
    def auc(self) -> float | None:
        """Mean AUC over the finished seeds."""
        return float(np.mean(self.aucs)) if self.aucs else None

    @property
    def blocks(self) -> dict[tuple[str, ...], list[Part]]:
        """Parts by their cases: those of one block share them, blocks are disjoint."""
        found: dict[tuple[str, ...], list[Part]] = {}
        for part in self.parts:
            found.setdefault(part.cases, []).append(part)
        return found

    @property
    def labels(self) -> np.ndarray:
        """Labels (N,) of the test cases, fold after fold; (0,) for a mean over tasks, which has no single ones."""
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
        """Number of test cases, of all folds together."""
        return sum(map(len, self.blocks))

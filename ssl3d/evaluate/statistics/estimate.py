"""Scores with each patient's contribution to their error. Loads neither torch nor scikit-learn.

To first order, the error of a score is a sum over cases: of DeLong's structural components for an AUC
(:mod:`~ssl3d.evaluate.statistics.auc`), of the influence function for other scores
(:mod:`~ssl3d.evaluate.statistics.influence`, where all cases are of one class). Cases of one patient are correlated, so
patients are the units that vary (Obuchowski 1997, Biometrics 53:567). With u_pc, the sum of the contributions of
patient p's cases of class c,

    Var = I/(I - 1) sum_p (sum_c u_pc)^2  +  sum_c (I_c/(I_c - 1) - I/(I - 1)) sum_p u_pc^2

where I is the number of patients and I_c the number with a case of class c. This is Obuchowski's variance for two
classes, and DeLong's if every patient has one case. A macro AUC is also a sum over cases, and so is the mean over tasks
of the same patients, whose classes overlap; its variance is sum_p (sum_c sqrt(I_c/(I_c - 1)) u_pc)^2 over the classes
of all tasks, which is also DeLong's for one task. Folds are disjoint, so their variances add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ssl3d.evaluate.statistics.limits import AUC, Scale

Term = tuple[np.ndarray, float]  # a part of a variance, (...), and its degrees of freedom


@dataclass(frozen=True, eq=False)
class Block:
    """Contributions of some patients to the error of AUCs.

    Attributes:
        parts: (C, P, ..., S), u_pc of each class, patient and seed; 0 for a patient without a case of the class.
        present: (C, P), whether the patient has a case of the class.
        tasks: number of tasks, which have C classes in total.
        averaged: number of scores averaged.
    """

    parts: np.ndarray
    present: np.ndarray
    tasks: int = 1
    averaged: int = 1

    @cached_property
    def sizes(self) -> np.ndarray:
        """Number of patients with a case of each class, (C,)."""
        return np.asarray(self.present.sum(axis=1))

    @cached_property
    def patterns(self) -> list[tuple[np.ndarray, float]]:
        """Patients grouped by the classes of their cases: (their indices, degrees of freedom).

        n patients lose n/I_c of a degree for the mean of class c: m - 1 are left for m positives with one case each.
        """
        found, pattern = np.unique(self.present, axis=1, return_inverse=True)
        groups = [np.flatnonzero(pattern.ravel() == g) for g in range(found.shape[1])]
        return [
            (group, len(group) * (1 - 1 / float(self.sizes[has].min())))
            for group, has in zip(groups, found.T, strict=True)
        ]

    def variances(self, contributions: np.ndarray) -> list[Term]:
        """Return the parts of a variance by pattern, (...), with their degrees of freedom.

        NaN if a class has one patient.

        Args:
            contributions: (C, P, ...), linear in :attr:`parts`.
        """
        if self.sizes.min() < 2:
            return [(np.full(contributions.shape[2:], np.nan), np.inf)]
        factors = self.sizes / (self.sizes - 1)
        if self.tasks > 1:
            of_patient = np.tensordot(np.sqrt(factors), contributions, 1) ** 2  # (P, ...)
        else:
            whole = self.present.shape[1] / (self.present.shape[1] - 1)
            of_patient = whole * contributions.sum(axis=0) ** 2 + np.tensordot(factors - whole, contributions**2, 1)
        return [(of_patient[group].sum(axis=0), free) for group, free in self.patterns]


@dataclass(frozen=True, eq=False)
class Estimate:
    """A score of one method's seeds, and each patient's contribution to their error.

    Attributes:
        scores: (..., S); leading axes are repetitions of everything, in simulations.
        blocks: blocks of disjoint patients, one per fold.
        scale: range of the score, and how its limits are found.
    """

    scores: np.ndarray
    blocks: tuple[Block, ...]
    scale: Scale = AUC

    @property
    def smallest(self) -> int:
        """Number of patients in the smallest class of any task, over all folds."""
        return int(sum(block.sizes.min() for block in self.blocks))

    @cached_property
    def means(self) -> tuple[np.ndarray, ...]:
        """Contributions (C, P, ...) of each block to the mean over seeds."""
        return tuple(block.parts.mean(axis=-1) for block in self.blocks)

    @cached_property
    def seed_variances(self) -> tuple[np.ndarray, np.ndarray]:
        """Variance of the score over seeds, and its part that comes from this sample of patients, each over S.

        Requires at least two seeds. See :mod:`ssl3d.evaluate.statistics.inference`.
        """
        S = self.scores.shape[-1]
        of_each = total([term for block in self.blocks for term in block.variances(block.parts)]).mean(axis=-1)
        of_mean = total(self.terms())
        return self.scores.var(axis=-1, ddof=1) / S, np.asarray((of_each - of_mean) / (S - 1))

    def limits(
        self, se: np.ndarray, df: np.ndarray, level: float = 0.95, *, multiple: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the limits of the mean score over seeds on its own scale, (...).

        Args:
            se: its standard error (...).
            df: degrees of freedom of the standard error (...).
            level: confidence.
            multiple: number of test patients, as a multiple of those at hand.
        """
        averaged = {"averaged": max(block.averaged for block in self.blocks)} if self.scale is AUC else {}
        return self.scale.limits(
            self.scores.mean(axis=-1), se, round(self.smallest * multiple), level, df=df, **averaged
        )

    def terms(self, other: Estimate | None = None) -> list[Term]:
        """Return the parts of the variance over patients of the mean over seeds, or its difference from another one.

        Args:
            other: estimate on the same patients.
        """
        means = self.means if other is None else [a - b for a, b in zip(self.means, other.means, strict=True)]
        return [term for block, mean in zip(self.blocks, means, strict=True) for term in block.variances(mean)]

    def grouped(self, seeds: int) -> Estimate:
        """Average the repetitions of each seed: S repetitions, ordered by seed, become ``seeds``.

        The variance over these means contains that of seeds and, divided by their number, that of repetitions.
        """

        def mean(values: np.ndarray) -> np.ndarray:
            return np.asarray(values.reshape(*values.shape[:-1], seeds, -1).mean(axis=-1))

        blocks = tuple(replace(block, parts=mean(block.parts)) for block in self.blocks)
        return replace(self, scores=mean(self.scores), blocks=blocks)


def total(terms: Sequence[Term]) -> np.ndarray:
    """Return the sum of the parts of a variance."""
    return np.asarray(np.sum([value for value, _ in terms], axis=0))


def by_patient(cases: np.ndarray, patients: np.ndarray | None, classes: np.ndarray, averaged: int = 1) -> Block:
    """Sum the contributions of cases over the cases of each class and patient.

    Args:
        cases: (N, S) contributions.
        patients: (N,) patient of each case; None: each case has its own patient.
        classes: (N,) class of each case: integers from 0.
        averaged: number of scores averaged.
    """
    ids = np.arange(len(cases)) if patients is None else np.unique(patients, return_inverse=True)[1].ravel()
    parts = np.zeros((classes.max() + 1, ids.max() + 1, cases.shape[1]))
    present = np.zeros(parts.shape[:2], bool)
    for k in range(len(parts)):
        members = classes == k
        # Class sizes are given, so the mean contribution of a class is not an error. (It is 0 for two classes.)
        np.add.at(parts[k], ids[members], cases[members] - cases[members].mean(axis=0))
        present[k, ids[members]] = True
    return Block(parts, present, averaged=averaged)


def mean_of(groups: Sequence[Sequence[Estimate]]) -> Estimate:
    """Return the mean over tasks and folds, seed by seed.

    Args:
        groups: one per fold, whose patients are disjoint; in each, one estimate per task, of the same patients. All are
            of one kind of score.
    """
    count = sum(map(len, groups))
    blocks = []
    for group in groups:
        found = [one.blocks[0] for one in group]
        parts = np.concatenate([block.parts for block in found]) / count
        present = np.concatenate([block.present for block in found])
        blocks.append(Block(parts, present, len(found), sum(block.averaged for block in found)))
    scores = np.sum([one.scores for group in groups for one in group], axis=0) / count
    return Estimate(scores, tuple(blocks), groups[0][0].scale)

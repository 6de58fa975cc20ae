"""The sampling error of AUCs over patients and seeds, and its degrees of freedom. Loads neither torch nor scikit-learn.

**Patients.** An AUC is, to first order, a sum over cases: of DeLong's structural components. Cases of one patient are
alike, so the patients are the units that vary (Obuchowski 1997, Biometrics 53:567). With u_pc, the sum of the
contributions of the cases of class c that patient p has,

    Var_patients = I/(I - 1) sum_p (sum_c u_pc)^2  +  sum_c (I_c/(I_c - 1) - I/(I - 1)) sum_p u_pc^2

where I is the number of patients and I_c that of patients with a case of class c. It is Obuchowski's variance for two
classes, and DeLong's where every patient has one case. A macro AUC is a sum over cases, too, and so is the mean over
tasks of the same patients: products across tasks have the factors sqrt(I_c/(I_c - 1)) of both classes. Folds are
disjoint, and their variances add up.

**Seeds.** Several seeds of a method are several readers of the same cases: a crossed design (Gallas 2006, Acad. Radiol.
13:353). With s^2, the variance of the AUC over S seeds, and v, the part of it that comes from this sample of patients,

    Var(mean over S seeds) = Var_patients(mean) + max(0, s^2 - v) / S
    v = (mean_s Var_patients(AUC_s) - Var_patients(mean)) S / (S - 1)

**Degrees of freedom** of such a sum are Satterthwaite's (1946): Var^2 / sum of (component^2 / its degrees of freedom).
For the seeds the component is the mean square, max(s^2, v) / S with S - 1 degrees of freedom, not the truncated
difference: where few seeds happen to lie close together, the truncated one vanishes and the test would count the
variance of seeds as known to be zero (Hillis 2007, Stat. Med. 26:596). For the patients it is the part of each class,
with I_c - 1: the variance from six positives is uncertain, however many negatives there are. Seeds of different methods
are not pooled: it gains some power where all methods vary alike, and gives false verdicts where they do not, as an
untrained encoder beside trained ones (benchmarks/results/coverage.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ssl3d.evaluate.statistics.delong import components
from ssl3d.evaluate.statistics.limits import Interval, PairedTest, logit_limits, wald

Term = tuple[np.ndarray, float]  # a part of a variance, (...), and its degrees of freedom


@dataclass(frozen=True, eq=False)
class Block:
    """Contributions of some patients to the error of AUCs.

    Attributes:
        parts: (C, P, ..., S), u_pc of each class, patient and seed; 0 for a patient without a case of the class.
        present: (C, P), whether the patient has a case of the class.
        classes: number of classes of each task, which sum up to C; ``parts`` has them task after task.
        averaged: number of AUCs that are averaged.
    """

    parts: np.ndarray
    present: np.ndarray
    classes: tuple[int, ...]
    averaged: int = 1

    @cached_property
    def sizes(self) -> np.ndarray:
        """Patients with a case of each class, (C,)."""
        return np.asarray(self.present.sum(axis=1))

    @cached_property
    def patterns(self) -> list[tuple[np.ndarray, float]]:
        """Patients that have cases of the same classes: (their indices, degrees of freedom).

        n patients lose n/I_c of a degree by the mean of class c: m - 1 are left of m positives with one case each.
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
        factors, all_ = self.sizes / (self.sizes - 1), self.present.shape[1] / (self.present.shape[1] - 1)
        scaled = np.tensordot(np.sqrt(factors), contributions, 1) if len(self.classes) > 1 else 0.0
        of_patient = np.zeros(contributions.shape[1:]) + scaled**2  # (P, ...), across tasks
        for end, count in zip(np.cumsum(self.classes), self.classes, strict=True):
            f, u = factors[end - count : end], contributions[end - count : end]
            of_patient += all_ * u.sum(axis=0) ** 2 + np.tensordot(f - all_, u**2, 1)
            if len(self.classes) > 1:
                of_patient -= np.tensordot(np.sqrt(f), u, 1) ** 2
        return [(of_patient[group].sum(axis=0), free) for group, free in self.patterns]


@dataclass(frozen=True, eq=False)
class Estimate:
    """The AUCs of one method's seeds, and what each patient contributes to their error.

    Attributes:
        aucs: (..., S); leading axes are repetitions of everything, in simulations.
        blocks: of disjoint patients, one per fold.
    """

    aucs: np.ndarray
    blocks: tuple[Block, ...]

    @property
    def smallest(self) -> int:
        """Patients of the smallest class of any task, of all folds together."""
        return int(sum(block.sizes.min() for block in self.blocks))

    def grouped(self, seeds: int) -> Estimate:
        """Return the mean of the repetitions of each seed: S repetitions, seed after seed, become ``seeds``.

        The variance over these means contains that of seeds and, divided by their number, that of repetitions.
        """

        def mean(values: np.ndarray) -> np.ndarray:
            return np.asarray(values.reshape(*values.shape[:-1], seeds, -1).mean(axis=-1))

        return Estimate(mean(self.aucs), tuple(replace(block, parts=mean(block.parts)) for block in self.blocks))


def estimate(labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray | None = None) -> Estimate:
    """Return the AUCs of one method: of class 1 for K = 2, macro (one against the rest) for more.

    Args:
        labels: (N,) integers below K, every class present.
        probabilities: (S, N, K), one layer per seed.
        patients: (N,) patient of each case; None: each case is of a patient of its own.

    Raises:
        ValueError: a class has no case.
    """
    K = probabilities.shape[2]
    classes = (1,) if K == 2 else tuple(range(K))
    aucs, cases = np.zeros(len(probabilities)), np.zeros((len(labels), len(probabilities)))
    for k in classes:
        positive = labels == k
        found = components(positive.astype(int), probabilities[:, :, k])
        aucs += found.auc / len(classes)
        for members, values in ((positive, found.positive), (~positive, found.negative)):
            cases[members] += (values - found.auc[:, None]).T / members.sum() / len(classes)
    return Estimate(aucs, (_by_patient(labels, cases, patients, K, len(classes)),))


def _by_patient(labels: np.ndarray, cases: np.ndarray, patients: np.ndarray | None, K: int, averaged: int) -> Block:
    """Sum the contributions (N, S) of cases over the cases of each class and patient."""
    ids = np.arange(len(labels)) if patients is None else np.unique(patients, return_inverse=True)[1].ravel()
    parts = np.zeros((K, ids.max() + 1, cases.shape[1]))
    present = np.zeros(parts.shape[:2], bool)
    for k in range(K):
        members = labels == k
        # Class sizes are given: what its class has on average is no error. (It is 0 for two classes.)
        np.add.at(parts[k], ids[members], cases[members] - cases[members].mean(axis=0))
        present[k, ids[members]] = True
    return Block(parts, present, (K,), averaged)


def mean_of(groups: Sequence[Sequence[Estimate]]) -> Estimate:
    """Return the mean over tasks and folds, seed by seed.

    Args:
        groups: one per fold, whose patients are disjoint; in each, one estimate per task, of the same patients.
    """
    count = sum(map(len, groups))
    blocks = []
    for group in groups:
        found = [one.blocks[0] for one in group]
        parts = np.concatenate([block.parts for block in found]) / count
        present = np.concatenate([block.present for block in found])
        classes = tuple(count for block in found for count in block.classes)
        blocks.append(Block(parts, present, classes, sum(block.averaged for block in found)))
    aucs = np.sum([one.aucs for group in groups for one in group], axis=0) / count
    return Estimate(aucs, tuple(blocks))


def standard_error(a: Estimate, b: Estimate | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the standard error of the mean AUC of ``a``, or of its difference from that of ``b``.

    Args:
        a: one method.
        b: another one, on the same patients; its seeds are independent of those of ``a``.

    Returns:
        (standard error (...), degrees of freedom (...)); the former is NaN where a class has one patient.
    """
    methods = [a] if b is None else [a, b]
    terms = patient_terms(a, b)
    variance = total(terms)
    for method in methods:
        S = method.aucs.shape[-1]
        if S > 1:
            of_seeds, of_sample = seed_variances(method)
            variance = variance + np.maximum(0.0, of_seeds - of_sample)
            terms.append((np.maximum(of_seeds, of_sample), S - 1))
    return np.sqrt(variance), satterthwaite(variance, terms)


def satterthwaite(variance: np.ndarray, terms: Sequence[Term]) -> np.ndarray:
    """Return the degrees of freedom of a variance, 1 at least; infinite where it has no part that is uncertain."""
    uncertain = np.sum([value**2 / free for value, free in terms], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.maximum(1.0, np.where(uncertain > 0, variance**2 / uncertain, np.inf))


def total(terms: Sequence[Term]) -> np.ndarray:
    """Return the sum of the parts of a variance."""
    return np.asarray(np.sum([value for value, _ in terms], axis=0))


def patient_terms(a: Estimate, b: Estimate | None = None) -> list[Term]:
    """Return the parts of the variance over patients of a mean over seeds, or a difference, with degrees of freedom."""
    means = [block.parts.mean(axis=-1) for block in a.blocks]
    if b is not None:
        means = [mean - other.parts.mean(axis=-1) for mean, other in zip(means, b.blocks, strict=True)]
    return [term for block, mean in zip(a.blocks, means, strict=True) for term in block.variances(mean)]


def seed_variances(method: Estimate) -> tuple[np.ndarray, np.ndarray]:
    """Return s^2 / S, and v / S: the part of it that comes from this sample of patients. For two seeds or more."""
    S = method.aucs.shape[-1]
    of_each = total([term for block in method.blocks for term in block.variances(block.parts)]).mean(axis=-1)
    of_mean = total(patient_terms(method))
    return method.aucs.var(axis=-1, ddof=1) / S, np.asarray((of_each - of_mean) / (S - 1))


def interval(of: Estimate, level: float = 0.95) -> Interval:
    """Return the mean AUC with its interval; see :func:`~ssl3d.evaluate.statistics.limits.logit_limits`."""
    (se, df), auc = standard_error(of), of.aucs.mean(axis=-1)
    averaged = max(block.averaged for block in of.blocks)
    low, high = logit_limits(auc, se, of.smallest, level, df=df, averaged=averaged)
    return Interval(float(auc), float(se), float(low), float(high))


def paired(a: Estimate, b: Estimate, level: float = 0.95) -> PairedTest:
    """Test that two methods have the same mean AUC; see :func:`~ssl3d.evaluate.statistics.limits.wald`."""
    se, df = standard_error(a, b)
    return wald(float(a.aucs.mean() - b.aucs.mean()), float(se), a.smallest, level, float(df))

"""Precision with more seeds or more test patients, predicted from the variance of those at hand. Loads no torch.

The design is crossed: every seed is evaluated on the same patients (see
:mod:`ssl3d.evaluate.statistics.inference`). The variance of a mean over S seeds on n patients has three sources,

    Var = p / n + q / (n S) + s / S

p between patients, s between seeds, q what a patient's cases do to one seed alone. With the v of that module,
q / (n S) = v / S, the rest of the variance over patients is p / n, and s / S is the excess of the seeds' variance.
Degrees of freedom grow with seeds and patients, which matters more than the standard error for two or three seeds. The
prediction is an estimate from one sample of patients and a few seeds: a guide to planning, not a promise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ssl3d.evaluate.statistics.compare import smallest_detectable
from ssl3d.evaluate.statistics.estimate import Estimate
from ssl3d.evaluate.statistics.inference import satterthwaite
from ssl3d.evaluate.statistics.limits import ROUNDING

SEEDS = 30  # as many are worth considering
MULTIPLES = np.geomspace(1, 20, 121)[1:]  # of the test patients: more are not worth considering


class PatientTerm(NamedTuple):
    """A part of the variance over patients: common to all seeds, of each method's own seeds, and its degrees."""

    common: float
    own: tuple[float, ...]
    free: float


class SeedTerm(NamedTuple):
    """The variance of one method's mean over its seeds: beyond that of patients, and that of patients."""

    excess: float
    sample: float


@dataclass(frozen=True)
class Sources:
    """The sources of the variance of a score, or of a difference between two.

    Attributes:
        patients: one part per pattern of classes, see :attr:`ssl3d.evaluate.statistics.estimate.Block.patterns`.
        seeds: one per method; None with one seed, whose variance is unknown and not part of the error.
        counts: seeds of each method.
    """

    patients: tuple[PatientTerm, ...]
    seeds: tuple[SeedTerm | None, ...]
    counts: tuple[int, ...]

    @property
    def known(self) -> bool:
        """Whether every method has several seeds, so that the effect of more of them can be predicted."""
        return None not in self.seeds

    @property
    def seed_share(self) -> float:
        """Part of the variance that more seeds would reduce: between seeds, and of single seeds on these patients."""
        own = sum(sum(term.own) for term in self.patients) + sum(one.excess for one in self.seeds if one)
        whole = self.standard_error()[0] ** 2
        return float(np.clip(own / whole, 0, 1)) if whole > 0 else 0.0

    def standard_error(self, seeds: int | None = None, multiple: float = 1.0) -> tuple[float, float]:
        """Return the standard error and its degrees of freedom in another design.

        Args:
            seeds: seeds of each method that has fewer; None: those at hand.
            multiple: number of test patients, as a multiple of those at hand.
        """
        factors = [max(count, seeds or 0) / count for count in self.counts]
        terms = [(_of_patients(term, factors) / multiple, term.free * multiple) for term in self.patients]
        variance = sum(value for value, _ in terms)
        for term, factor, count in zip(self.seeds, factors, self.counts, strict=True):
            if term is not None:
                variance += term.excess / factor
                square = (term.excess + term.sample / multiple) / factor
                terms.append((square, factor * count - 1))
        found = [(np.asarray(value), free) for value, free in terms]
        return float(np.sqrt(variance)), float(satterthwaite(np.asarray(variance), found))


def _of_patients(term: PatientTerm, factors: list[float]) -> float:
    """Return a part of the variance over patients with more seeds: at least 0, since its sources are estimates."""
    return max(0.0, term.common + sum(own / factor for own, factor in zip(term.own, factors, strict=True)))


def sources(a: Estimate, b: Estimate | None = None) -> Sources:
    """Return the sources of the variance of the mean score of ``a``, or of its difference from that of ``b``.

    Args:
        a: one method.
        b: another one, on the same patients.
    """
    methods = [a] if b is None else [a, b]
    own = [_own(method) for method in methods]  # by method, by term
    patients = [
        PatientTerm(float(value) - sum(parts), tuple(parts), free)
        for (value, free), parts in zip(a.terms(b), zip(*own, strict=True), strict=True)
    ]
    counts = tuple(method.scores.shape[-1] for method in methods)
    return Sources(tuple(patients), tuple(_seed_term(method) for method in methods), counts)


def _own(method: Estimate) -> list[float]:
    """Return the part of each term over patients that seeds do not share, divided by their number: v / S."""
    S = method.scores.shape[-1]
    if S == 1:
        return [0.0] * len(method.terms())
    each = [term for block in method.blocks for term in block.variances(block.parts)]
    pairs = zip(each, method.terms(), strict=True)
    return [float(of_each.mean(axis=-1) - of_mean) / (S - 1) for (of_each, _), (of_mean, _) in pairs]


def _seed_term(method: Estimate) -> SeedTerm | None:
    if method.scores.shape[-1] == 1:
        return None
    of_seeds, of_sample = map(float, method.seed_variances)
    return SeedTerm(max(0.0, of_seeds - of_sample), of_sample)


def width(of: Estimate, seeds: int | None = None, multiple: float = 1.0, level: float = 0.95) -> float:
    """Return the width of the interval of a mean score in another design; see :meth:`Sources.standard_error`."""
    se, df = sources(of).standard_error(seeds, multiple)
    low, high = of.limits(np.asarray(se), np.asarray(df), level, multiple=multiple)
    return float(high - low)


def enough_seeds(reached: Callable[[int], bool], start: int) -> int | None:
    """Return the smallest number of seeds above ``start`` that is enough; None if :data:`SEEDS` are not."""
    return next((seeds for seeds in range(start + 1, SEEDS + 1) if reached(seeds)), None)


def enough_patients(reached: Callable[[float], bool]) -> float | None:
    """Return the smallest multiple of the test patients that is enough; None if 20 times as many are not.

    More patients need not help: the fewer degrees of freedom that are left, those of the seeds, may outweigh them. So
    the next larger multiple must be enough too.
    """
    found = [(float(multiple), reached(float(multiple))) for multiple in MULTIPLES]
    return next((here for (here, yes), (_, still) in pairwise(found) if yes and still), None)


def detects(of: Sources, difference: float, comparisons: int, *, most: float = 1.0) -> tuple[int | None, float | None]:
    """Return what the corrected test would need to find a true difference of this size with 80% power.

    Args:
        of: sources of the variance of the difference.
        difference: true difference of two scores.
        comparisons: number of pairs tested together (Holm's first step).
        most: largest possible difference: 1 for AUCs.

    Returns:
        (seeds of each method that has fewer, with these patients; multiple of the patients, with these seeds); each
        None if it is beyond :data:`SEEDS` or 20 times the patients. Seeds are None, too, if a method has one.
    """

    def reached(seeds: int | None = None, multiple: float = 1.0) -> bool:
        se, df = of.standard_error(seeds, multiple)
        found = smallest_detectable(se, df, comparisons, most=most)
        return found is not None and found <= abs(difference)

    if not of.standard_error()[0] > ROUNDING or not abs(difference) > ROUNDING:
        return None, None  # NaN: a class of one patient
    seeds = enough_seeds(lambda count: reached(seeds=count), min(of.counts)) if of.known else None
    return seeds, enough_patients(lambda multiple: reached(multiple=multiple))

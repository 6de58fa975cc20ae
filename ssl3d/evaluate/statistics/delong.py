"""Variance, interval and paired test of the AUC (DeLong, DeLong, Clarke-Pearson 1988, Biometrics 44:837).

Structural components are computed in O(N log N) by counting in sorted scores, which equals the midranks of Sun and
Xu 2014 (IEEE Signal Processing Letters 21:1389). Ties count one half. Loads neither torch nor scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, stdtr, stdtrit


@dataclass(frozen=True)
class Components:
    """AUCs of M score vectors on the same cases, and their structural components.

    Attributes:
        auc: (M,).
        positive: (M, m), share of the negatives that each positive exceeds.
        negative: (M, n), share of the positives that exceed each negative.
    """

    auc: np.ndarray
    positive: np.ndarray
    negative: np.ndarray

    @property
    def smallest(self) -> int:
        """Size of the smaller class."""
        return int(min(self.positive.shape[1], self.negative.shape[1]))

    def variance(self) -> np.ndarray:
        """Return the variance (M,) of each AUC; NaN if a class has one case."""
        if self.smallest < 2:
            return np.full(len(self.auc), np.nan)
        return np.asarray(_spread(self.positive) + _spread(self.negative))

    def difference_variance(self, a: int = 0, b: int = 1) -> float:
        """Return the variance of ``auc[a] - auc[b]``, both on the same cases; NaN if a class has one case."""
        if self.smallest < 2:
            return float("nan")
        return float(_spread(self.positive[a] - self.positive[b]) + _spread(self.negative[a] - self.negative[b]))


@dataclass(frozen=True)
class Interval:
    """An estimate with its standard error and confidence limits."""

    estimate: float
    se: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest(Interval):
    """A difference of two AUCs, with the two-sided p value of no difference."""

    p: float


def _spread(components: np.ndarray) -> np.ndarray:
    """Variance of a mean, from its terms on the last axis."""
    variance: np.ndarray = components.var(axis=-1, ddof=1) / components.shape[-1]
    return variance


def components(labels: np.ndarray, scores: np.ndarray) -> Components:
    """Return AUCs and structural components.

    Args:
        labels: (N,) 0 or 1, both present.
        scores: (M, N), or (N,) for M = 1; larger means more likely positive.
    """
    scores = np.atleast_2d(scores)
    positives, negatives = scores[:, labels == 1], scores[:, labels == 0]
    if not positives.shape[1] or not negatives.shape[1]:
        raise ValueError("an AUC needs cases of both classes")
    positive = np.stack([_below(x, y) for x, y in zip(positives, negatives, strict=True)])  # (M, m)
    negative = 1 - np.stack([_below(y, x) for x, y in zip(positives, negatives, strict=True)])  # (M, n)
    return Components(positive.mean(axis=1), positive, negative)


def _below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of ``others`` below each value, ties one half."""
    others = np.sort(others)
    counts = np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")
    return np.asarray(counts / (2 * len(others)))


def auc_interval(labels: np.ndarray, scores: np.ndarray, level: float = 0.95) -> Interval:
    """Return the AUC of scores (N,) with its DeLong interval; see :func:`logit_limits` for its limits."""
    return mean_interval([(labels, scores)], level)


def mean_interval(folds: Sequence[tuple[np.ndarray, np.ndarray]], level: float = 0.95) -> Interval:
    """Return the mean of the AUCs of disjoint sets of cases, with the interval of their independent DeLong variances.

    Var(mean of k) = sum of variances / k^2. Cross-validated AUCs are independent only given the fitted models, which
    share training cases: over repetitions of the whole procedure, their mean varies more (Bengio & Grandvalet 2004,
    JMLR 5:1089).

    Args:
        folds: (labels (N,), scores (N,)) of each set.
        level: confidence.
    """
    found = [components(labels, scores) for labels, scores in folds]
    auc = np.mean([part.auc for part in found], axis=0)  # (1,)
    se = np.sqrt(sum(part.variance() for part in found)) / len(found)  # (1,)
    low, high = logit_limits(auc, se, sum(part.smallest for part in found), level)
    return Interval(float(auc[0]), float(se[0]), float(low[0]), float(high[0]))


def logit_limits(
    auc: np.ndarray, se: np.ndarray, smallest: int, level: float = 0.95, df: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Return limits that stay inside [0, 1]: symmetric on the logit scale (Pepe 2003, section 5.2).

    logit(auc) +- z se / (auc (1 - auc)). It does not exist in three cases:

    - auc = 1: the lower limit is (alpha/2)^(1/k), k the size of the smaller class. k disjoint pairs of a positive and a
      negative are independent and all in order, which has a chance of at most auc^k. auc = 0 is its mirror image.
    - se = 0 otherwise: the scores are constant; their AUC is 1/2 whatever the cases, a point.
    - se = NaN (a class of one case): unknown, [0, 1].

    Args:
        auc: (M,).
        se: (M,) standard errors.
        smallest: number of cases of the smaller class.
        level: confidence.
        df: degrees of freedom of the standard error (Student's t); infinite: the normal distribution.
    """
    inside = (auc > 0) & (auc < 1)
    middle = np.where(inside, auc, 0.5)
    half = stdtrit(df, 0.5 + level / 2) * se / (middle * (1 - middle))
    low, high = expit(logit(middle) - half), expit(logit(middle) + half)
    bound = extreme_bound(smallest, level)
    low = np.where(auc >= 1, bound, np.where(auc <= 0, 0.0, low))
    high = np.where(auc <= 0, 1 - bound, np.where(auc >= 1, 1.0, high))
    unknown = np.isnan(se)
    return np.where(unknown, 0.0, low), np.where(unknown, 1.0, high)


def extreme_bound(smallest: int, level: float = 0.95) -> float:
    """Return the AUC below which a perfect ordering of the test cases would be too unlikely."""
    return float(((1 - level) / 2) ** (1 / smallest))


def paired_test(labels: np.ndarray, a: np.ndarray, b: np.ndarray, level: float = 0.95) -> PairedTest:
    """Test ``auc(a) = auc(b)`` for two score vectors (N,) on the same cases (DeLong et al. 1988, eq. 6).

    Two scores that put every pair in the same order have no difference: p = 1. See also :func:`wald`.
    """
    return mean_paired_test([(labels, a, b)], level)


def mean_paired_test(folds: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], level: float = 0.95) -> PairedTest:
    """Test the mean over disjoint sets of cases of ``auc(a) - auc(b)``; see :func:`mean_interval` for what it assumes.

    Args:
        folds: (labels (N,), scores a (N,), scores b (N,)) of each set.
        level: confidence of the interval.
    """
    found = [components(labels, np.stack([a, b])) for labels, a, b in folds]
    difference = float(np.mean([part.auc[0] - part.auc[1] for part in found]))
    se = float(np.sqrt(sum(part.difference_variance() for part in found))) / len(found)
    return wald(difference, se, sum(part.smallest for part in found), level)


def wald(difference: float, se: float, smallest: int, level: float = 0.95, df: float = np.inf) -> PairedTest:
    """Return the two-sided test of a difference and its interval, cut off at [-1, 1].

    With se = 0 the components are constant: AUCs of 0, 1/2 or 1. p is then twice the probability of a perfect ordering
    by chance, 2 * 0.5^k, as in :func:`logit_limits`. With se = NaN (a class of one case) the difference is unknown:
    p = 1, [-1, 1].

    Args:
        difference: of two AUCs.
        se: its standard error.
        smallest: k, number of cases of the smaller class.
        level: confidence of the interval.
        df: degrees of freedom of the standard error (Student's t); infinite: the normal distribution.
    """
    if np.isnan(se):
        return PairedTest(difference, se, -1.0, 1.0, 1.0)
    if se < 1e-12:  # zero but for rounding
        if abs(difference) < 1e-12:
            return PairedTest(0.0, 0.0, 0.0, 0.0, 1.0)
        half, p = 1 - extreme_bound(smallest, level), min(1.0, 2 * 0.5**smallest)
    else:
        half, p = float(stdtrit(df, 0.5 + level / 2)) * se, float(2 * stdtr(df, -abs(difference) / se))
    return PairedTest(difference, se, max(-1.0, difference - half), min(1.0, difference + half), p)

"""Limits and p values from a score or a difference and its standard error. Loads neither torch nor scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, stdtr, stdtrit

MOST = 8  # effective cases per case of the smaller class, at most; see :func:`logit_limits`
ROUNDING = 1e-12  # a standard error below is zero


@dataclass(frozen=True)
class Interval:
    """An estimate with its standard error and confidence limits."""

    estimate: float
    se: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest(Interval):
    """A difference of two scores, with the two-sided p value of no difference and its degrees of freedom."""

    p: float
    df: float = float("inf")


def logit_limits(
    auc: np.ndarray,
    se: np.ndarray,
    smallest: int,
    level: float = 0.95,
    *,
    df: float | np.ndarray = np.inf,
    averaged: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return limits within [0, 1] that are symmetric on the logit scale (Pepe 2003, section 5.2).

    logit(auc) +- t se / (auc (1 - auc)). There are four exceptions:

    - Few cases, almost perfectly ordered, look alike, and the standard error is too small. An AUC has the precision of
      a proportion of auc (1 - auc) / se^2 cases. Under binormal scores of equal variance these are 3 (at .5) to 5.7 (at
      .97) per case of the smaller class, if the other class is large. If there seem to be more than :data:`MOST`, the
      limits are widened to Wilson's (1927) for that many cases.
    - auc = 1: the lower limit is (alpha/2)^(1/k), where k is the size of the smaller class. k disjoint pairs of a
      positive and a negative are independent and all in order, which has a probability of at most auc^k. auc = 0 is
      symmetric.
    - se = 0 otherwise: the scores are constant; their AUC is 1/2 for any cases, a point.
    - se = NaN (a class of one patient): unknown, [0, 1].

    Args:
        auc: (M,).
        se: (M,) standard errors.
        smallest: number of patients of the smaller class.
        level: confidence.
        df: degrees of freedom of the standard error (Student's t); infinite: the normal distribution.
        averaged: number of AUCs on the same patients averaged in ``auc``; it may be more precise than one.
    """
    inside = (auc > 0) & (auc < 1)
    middle = np.where(inside, auc, 0.5)
    t = np.asarray(stdtrit(df, 0.5 + level / 2))
    half = t * se / (middle * (1 - middle))
    low, high = expit(logit(middle) - half), expit(logit(middle) + half)
    most = MOST * smallest * averaged
    widen = inside & (se > ROUNDING) & (middle * (1 - middle) > most * se**2)
    wilson_low, wilson_high = _wilson(middle, most, t)
    low = np.where(widen, np.minimum(low, wilson_low), low)
    high = np.where(widen, np.maximum(high, wilson_high), high)
    bound = extreme_bound(smallest, level)
    low = np.where(auc >= 1, bound, np.where(auc <= 0, 0.0, low))
    high = np.where(auc <= 0, 1 - bound, np.where(auc >= 1, 1.0, high))
    unknown = np.isnan(se)
    return np.where(unknown, 0.0, low), np.where(unknown, 1.0, high)


def _wilson(share: np.ndarray, cases: int, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Wilson's limits of a proportion."""
    extra = t**2 / cases
    middle = (share + extra / 2) / (1 + extra)
    half = np.sqrt(share * (1 - share) * extra + extra**2 / 4) / (1 + extra)
    return middle - half, middle + half


def extreme_bound(smallest: int, level: float = 0.95) -> float:
    """Return the AUC below which a perfect ordering of the test cases would be too unlikely."""
    return float(((1 - level) / 2) ** (1 / smallest))


def fisher_limits(
    r: np.ndarray, se: np.ndarray, smallest: int, level: float = 0.95, *, df: float | np.ndarray = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Return the limits of correlations or of kappas, symmetric in Fisher's z = atanh(r).

    A perfect r of 1 has no standard error. Its lower limit is 2 p - 1, where p is :func:`extreme_bound`, the share of
    patients in order below which all of them would too rarely be; r = -1 is symmetric. Parameters are those of
    :func:`logit_limits`, which also has the other exceptions.
    """
    inside = np.abs(r) < 1 - ROUNDING
    middle = np.where(inside, r, 0.0)
    half = np.asarray(stdtrit(df, 0.5 + level / 2)) * se / (1 - middle**2)
    bound = 2 * extreme_bound(smallest, level) - 1
    low = np.where(inside, np.tanh(np.arctanh(middle) - half), np.where(r > 0, bound, -1.0))
    high = np.where(inside, np.tanh(np.arctanh(middle) + half), np.where(r > 0, 1.0, -bound))
    unknown = np.isnan(se)
    return np.where(unknown, -1.0, low), np.where(unknown, 1.0, high)


def error_limits(
    error: np.ndarray,
    se: np.ndarray,
    smallest: int,  # noqa: ARG001  # part of the form of all limits
    level: float = 0.95,
    *,
    df: float | np.ndarray = np.inf,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the limits of mean errors, symmetric in their logarithm; an error of 0 is a point.

    Parameters are those of :func:`logit_limits`.
    """
    inside = error > 0
    middle = np.where(inside, error, 1.0)
    with np.errstate(over="ignore"):
        factor = np.exp(np.asarray(stdtrit(df, 0.5 + level / 2)) * se / middle)
    low, high = np.where(inside, middle / factor, 0.0), np.where(inside, middle * factor, 0.0)
    unknown = np.isnan(se)
    return np.where(unknown, 0.0, low), np.where(unknown, np.inf, high)


def explained_limits(
    r2: np.ndarray, se: np.ndarray, smallest: int, level: float = 0.95, *, df: float | np.ndarray = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Return the limits of coefficients of determination: those of the unexplained share, as :func:`error_limits`."""
    low, high = error_limits(1 - r2, se, smallest, level, df=df)
    return 1 - high, 1 - low


@dataclass(frozen=True)
class Scale:
    """The range of a kind of score, and how its limits are found.

    Attributes:
        low: smallest possible value.
        high: largest possible value.
        limits: limits from scores, standard errors and the number of patients; see :func:`logit_limits`.
    """

    low: float
    high: float
    limits: Callable[..., tuple[np.ndarray, np.ndarray]]

    @property
    def width(self) -> float:
        """Largest possible difference of two scores."""
        return self.high - self.low


AUC = Scale(0.0, 1.0, logit_limits)
CORRELATION = Scale(-1.0, 1.0, fisher_limits)
ERROR = Scale(0.0, np.inf, error_limits)
EXPLAINED = Scale(-np.inf, 1.0, explained_limits)


def two_sided(difference: np.ndarray, se: np.ndarray, smallest: int, df: float | np.ndarray = np.inf) -> np.ndarray:
    """Return p values of no difference, elementwise; see :func:`wald`."""
    none = np.where(np.abs(difference) < ROUNDING, 1.0, min(1.0, 2 * 0.5**smallest))
    zero = se < ROUNDING
    found = 2 * stdtr(df, -np.abs(difference) / np.where(zero, 1.0, se))
    return np.asarray(np.where(np.isnan(se), 1.0, np.where(zero, none, found)))


def wald(
    difference: float, se: float, smallest: int, level: float = 0.95, *, df: float = np.inf, most: float = 1.0
) -> PairedTest:
    """Return the two-sided test of a difference and its interval, clipped to what is possible.

    With se = 0 the components are constant, as for AUCs of 0, 1/2 or 1. p is then twice the probability of a perfect
    ordering by chance, 2 * 0.5^k, as in :func:`logit_limits`. With se = NaN (a class of one patient) the difference is
    unknown: p = 1, and every difference is in the interval.

    Args:
        difference: difference of two scores.
        se: its standard error.
        smallest: k, number of patients of the smaller class.
        level: confidence of the interval.
        df: degrees of freedom of the standard error (Student's t); infinite: the normal distribution.
        most: largest possible difference.
    """
    p = float(two_sided(np.array(difference), np.array(se), smallest, df))
    if np.isnan(se):
        return PairedTest(difference, se, -most, most, p, df)
    if se < ROUNDING and abs(difference) < ROUNDING:
        return PairedTest(0.0, 0.0, 0.0, 0.0, p, df)
    constant = most * (1 - extreme_bound(smallest, level)) if np.isfinite(most) else 0.0
    half = constant if se < ROUNDING else float(stdtrit(df, 0.5 + level / 2)) * se
    return PairedTest(difference, se, max(-most, difference - half), min(most, difference + half), p, df)

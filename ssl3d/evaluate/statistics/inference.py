"""Standard errors over patients and seeds with their degrees of freedom, intervals and tests. Loads no torch.

**Seeds.** Several seeds of a method are several readers of the same cases: a crossed design (Gallas 2006, Acad. Radiol.
13:353). With s^2, the variance of the score over S seeds, and v, its part that comes from this sample of patients,

    Var(mean over S seeds) = Var_patients(mean) + max(0, s^2 - v) / S
    v = (mean_s Var_patients(score_s) - Var_patients(mean)) S / (S - 1)

where Var_patients is that of :mod:`ssl3d.evaluate.statistics.estimate`.

**Degrees of freedom** of such a sum are Satterthwaite's (1946): Var^2 / sum of (component^2 / its degrees of freedom).
For the seeds the component is the mean square, max(s^2, v) / S with S - 1 degrees of freedom, not the truncated
difference: if a few seeds happen to be close together, the truncated one vanishes and the test would treat the
variance of seeds as known to be zero (Hillis 2007, Stat. Med. 26:596). For the patients it is the part of each class,
with I_c - 1: the variance from six positives is uncertain, however many negatives there are. Seeds of different methods
are not pooled: this would gain some power if all methods vary equally, but give false verdicts if they do not, such as
an untrained encoder beside trained ones (benchmarks/results/coverage.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssl3d.evaluate.statistics.estimate import Estimate, Term, total
from ssl3d.evaluate.statistics.limits import Interval, PairedTest, wald


def standard_error(a: Estimate, b: Estimate | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the standard error of the mean score of ``a``, or of its difference from that of ``b``.

    Args:
        a: one method.
        b: another one, on the same patients; its seeds are independent of those of ``a``.

    Returns:
        (standard error (...), degrees of freedom (...)); the former is NaN if a class has one patient.
    """
    methods = [a] if b is None else [a, b]
    terms = a.terms(b)
    variance = total(terms)
    for method in methods:
        S = method.scores.shape[-1]
        if S > 1:
            of_seeds, of_sample = method.seed_variances
            variance = variance + np.maximum(0.0, of_seeds - of_sample)
            terms.append((np.maximum(of_seeds, of_sample), S - 1))
    return np.sqrt(variance), satterthwaite(variance, terms)


def satterthwaite(variance: np.ndarray, terms: Sequence[Term]) -> np.ndarray:
    """Return the degrees of freedom of a variance, at least 1; infinite if no part of it is uncertain."""
    uncertain = np.sum([value**2 / free for value, free in terms], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.maximum(1.0, np.where(uncertain > 0, variance**2 / uncertain, np.inf))


def interval(of: Estimate, level: float = 0.95) -> Interval:
    """Return the mean score with its interval; see :class:`~ssl3d.evaluate.statistics.limits.Scale`."""
    se, df = standard_error(of)
    low, high = of.limits(se, df, level)
    return Interval(float(of.scores.mean(axis=-1)), float(se), float(low), float(high))


def paired(a: Estimate, b: Estimate, level: float = 0.95) -> PairedTest:
    """Test that two methods have the same mean score; see :func:`~ssl3d.evaluate.statistics.limits.wald`."""
    se, df = standard_error(a, b)
    difference = float(a.scores.mean() - b.scores.mean())
    return wald(difference, float(se), a.smallest, level, df=float(df), most=a.scale.width)

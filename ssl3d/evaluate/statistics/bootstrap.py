"""Resampled test cases, for bands of curves. Loads neither torch nor scikit-learn.

Patients are resampled with all their cases, within strata of patients with cases of the same classes. A resample of
all n patients of a stratum underestimates the variance by (n - 1)/n, so n - 1 are drawn, each with weight n/(n - 1),
which is unbiased (Rao & Wu 1988, JASA 83:231). AUCs need no draws: the variance of their linear part over all
resamples has a closed form, see :mod:`ssl3d.evaluate.statistics.estimate`.
"""

from __future__ import annotations

import numpy as np


def resample_cases(
    labels: np.ndarray, draws: int, rng: np.random.Generator, patients: np.ndarray | None = None
) -> np.ndarray:
    """Return the weight of each case in each draw, (draws, N) float64.

    The weights of a stratum's patients have the same sum in every draw, as do those of each class if every patient has
    one case. A stratum of one patient is not resampled.

    Args:
        labels: (N,) classes.
        draws: number of resamples.
        rng: source of all draws.
        patients: (N,) patient of each case; None: each case has its own patient.
    """
    ids = np.arange(len(labels)) if patients is None else np.unique(patients, return_inverse=True)[1].ravel()
    classes, column = np.unique(labels, return_inverse=True)
    present = np.zeros((ids.max() + 1, len(classes)), bool)
    present[ids, column.ravel()] = True
    stratum = np.unique(present, axis=0, return_inverse=True)[1].ravel()
    weights = np.ones((draws, len(present)))  # of patients
    for index in range(stratum.max() + 1):
        members = np.flatnonzero(stratum == index)
        n = len(members)
        if n > 1:
            weights[:, members] = rng.multinomial(n - 1, np.full(n, 1 / n), size=draws) * (n / (n - 1))
    return weights[:, ids]

"""Structural components of AUCs (DeLong, DeLong, Clarke-Pearson 1988, Biometrics 44:837).

They are computed in O(N log N) by counting in sorted scores, which equals the midranks of Sun and Xu 2014 (IEEE Signal
Processing Letters 21:1389). Ties count one half. Loads neither torch nor scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Components:
    """AUCs of M score vectors on the same cases, and their structural components.

    Attributes:
        auc: (M,).
        positive: (M, m), fraction of the negatives that each positive exceeds.
        negative: (M, n), fraction of the positives that exceed each negative.
    """

    auc: np.ndarray
    positive: np.ndarray
    negative: np.ndarray


def components(labels: np.ndarray, scores: np.ndarray) -> Components:
    """Return AUCs and structural components.

    Args:
        labels: (N,) 0 or 1, both present.
        scores: (M, N), or (N,) for M = 1; larger means more likely positive.

    Raises:
        ValueError: a class has no case.
    """
    scores = np.atleast_2d(scores)
    positives, negatives = scores[:, labels == 1], scores[:, labels == 0]
    if not positives.shape[1] or not negatives.shape[1]:
        raise ValueError("an AUC needs cases of both classes")
    positive = np.stack([_below(x, y) for x, y in zip(positives, negatives, strict=True)])  # (M, m)
    negative = 1 - np.stack([_below(y, x) for x, y in zip(positives, negatives, strict=True)])  # (M, n)
    return Components(positive.mean(axis=1), positive, negative)


def _below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the fraction of ``others`` below each value, ties counting one half."""
    others = np.sort(others)
    counts = np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")
    return np.asarray(counts / (2 * len(others)))

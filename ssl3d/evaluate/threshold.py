"""The threshold that turns the probability of class 1 into a decision. Loads neither torch nor scikit-learn."""

from __future__ import annotations

import numpy as np


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the threshold that maximises balanced accuracy (Youden's J) on out-of-fold training scores.

    It lies halfway between neighbouring scores; if several are equally good, the one nearest to 0.5 is used.

    Args:
        labels: (N,) 0 or 1, both present.
        scores: (N,) probabilities of class 1, for cases that the model had not seen.
    """
    values = np.unique(scores)  # (U,), ascending
    cuts = np.concatenate([values[:1], (values[:-1] + values[1:]) / 2, [np.nextafter(values[-1], np.inf)]])
    positives, negatives = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    sensitivity = 1 - np.searchsorted(positives, cuts) / len(positives)  # (U + 1,), share at or above the cut
    specificity = np.searchsorted(negatives, cuts) / len(negatives)
    youden = sensitivity + specificity
    best = cuts[youden >= youden.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - 0.5))])

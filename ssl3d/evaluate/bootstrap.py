"""A bootstrap of the AUC over test cases and seeds together. Loads neither torch nor scikit-learn.

Cases are resampled within their class, as many as there are (more would make every interval too narrow). Methods that
are compared share the resamples, so a difference is paired. Of S seeds S - 1 are drawn, with replacement: that makes
the variance of the mean over few seeds unbiased, where drawing S shrinks it by (S - 1)/S (McCarthy and Snowden 1985).
"""

from __future__ import annotations

import numpy as np

DRAWS = 2000
BLOCK = 1024  # negatives of the pair matrix that are in memory at one time


def resample_cases(labels: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each case is drawn, (draws, N) float64; every class keeps its size in every draw."""
    counts = np.zeros((draws, len(labels)))
    for value in np.unique(labels):
        members = np.flatnonzero(labels == value)
        share = np.full(len(members), 1 / len(members))
        counts[:, members] = rng.multinomial(len(members), share, size=draws)
    return counts


def resampled_auc(labels: np.ndarray, probabilities: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the AUC (draws,) in each resample: of class 1 for K = 2, the macro mean over classes for more.

    Args:
        labels: (N,) integers, every class present.
        probabilities: (N, K).
        counts: (draws, N) from :func:`resample_cases`.
    """
    K = probabilities.shape[1]
    classes = (1,) if K == 2 else range(K)
    return np.asarray(np.mean([_weighted_auc(labels == k, probabilities[:, k], counts) for k in classes], axis=0))


def _weighted_auc(positive: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """AUC in each resample as a bilinear form in the counts: sum_ij c_i [s_i > s_j] c_j / (m n), ties one half."""
    x, weight_x = scores[positive], counts[:, positive]  # (m,), (draws, m)
    total = np.zeros(len(counts))
    negatives = np.flatnonzero(~positive)
    for start in range(0, len(negatives), BLOCK):
        block = negatives[start : start + BLOCK]
        y = scores[block]
        order = ((x[:, None] > y) + (x[:, None] >= y)) / 2  # (m, n), 0, 1/2 or 1
        total += np.einsum("dn,dn->d", weight_x @ order, counts[:, block])
    return np.asarray(total / (weight_x.sum(axis=1) * counts[:, ~positive].sum(axis=1)))


def mean_over_seeds(aucs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the mean (draws,) over resampled seeds of AUCs (draws, S)."""
    draws, S = aucs.shape
    if S == 1:
        return np.asarray(aucs[:, 0])
    drawn = rng.integers(S, size=(draws, S - 1))
    return np.asarray(np.take_along_axis(aucs, drawn, axis=1).mean(axis=1))


def bootstrap_auc(
    labels: np.ndarray, probabilities: np.ndarray, counts: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return draws of the mean AUC of one method over its seeds.

    Args:
        labels: (N,) integers, every class present.
        probabilities: (S, N, K), one layer a seed.
        counts: (draws, N); the same ones for methods that are to be compared.
        rng: draws the seeds.
    """
    aucs = np.stack([resampled_auc(labels, p, counts) for p in probabilities], axis=1)  # (draws, S)
    return mean_over_seeds(aucs, rng)

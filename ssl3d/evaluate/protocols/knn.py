"""k nearest neighbours, weighted by cosine similarity (Wu et al. 2018, arXiv 1805.01978; DINO, 2104.14294)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssl3d.evaluate.protocols.inner import choose, splits
from ssl3d.protocol import Prediction, check_features, class_count

NEIGHBOURS = (200, 100, 50, 20, 10, 5, 3, 1)  # the smoothest first
TEMPERATURE = 0.07
QUERIES = 1024  # rows of the similarity matrix that are in memory at one time


def knn(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    folds: int = 5,
    seed: int = 0,
    *,
    classes: int | None = None,
) -> Prediction:
    """Let the k most similar training cases vote with weights exp(cos / 0.07); k by inner cross-validation.

    The grid of k is cut off at the number of cases that an inner fold leaves to vote.

    Args:
        train_x: (N, F) features.
        train_y: (N,) labels in 0..K-1.
        test_x: (N_test, F) features.
        folds: inner folds that choose k and the threshold.
        seed: of the inner split.
        classes: K; the largest training label + 1 if None.

    Raises:
        DataError: one class only, features that are not finite, or shapes that disagree.
    """
    K = class_count(train_y, classes)
    check_features(train_x, train_y, test_x)
    train_x, test_x = _unit(train_x), _unit(test_x)
    voters = min([len(fit) for fit, _ in splits(train_y, folds, seed)], default=len(train_y))
    grid = sorted({min(k, voters) for k in NEIGHBOURS}, reverse=True)

    def fit_predict(fit: np.ndarray, held: np.ndarray) -> np.ndarray:
        return vote(train_x[fit], train_y[fit], train_x[held], K, grid)

    choice = choose(fit_predict, train_y, classes=K, folds=folds, seed=seed, default=0)
    k = grid[choice.index]
    probabilities = vote(train_x, train_y, test_x, K, [k])[0]
    chosen = {"k": k, "temperature": TEMPERATURE, **choice.report}
    return Prediction(probabilities, choice.threshold, chosen, choice.out_of_fold)


def vote(x: np.ndarray, y: np.ndarray, queries: np.ndarray, K: int, grid: Sequence[int]) -> np.ndarray:
    """Return probabilities (G, n, K) of n queries for each k of a grid.

    Args:
        x: (N, F) unit vectors that vote.
        y: (N,) their labels.
        queries: (n, F) unit vectors.
        K: number of classes.
        grid: numbers of neighbours, none above N.
    """
    out = np.empty((len(grid), len(queries), K))
    for start in range(0, len(queries), QUERIES):
        similarity = queries[start : start + QUERIES] @ x.T  # (n, N)
        near = np.argsort(-similarity, axis=1, kind="stable")[:, : max(grid)]  # (n, k)
        # Divided by the largest weight, which cancels below and keeps the exponential in range.
        similarity = np.take_along_axis(similarity, near, axis=1)
        weight = np.exp((similarity - similarity[:, :1]) / TEMPERATURE)  # (n, k)
        votes = np.cumsum(weight[:, :, None] * np.eye(K)[y[near]], axis=1)  # (n, k, K)
        chosen = votes[:, np.asarray(grid) - 1].transpose(1, 0, 2)  # (G, n, K)
        out[:, start : start + QUERIES] = chosen / chosen.sum(axis=2, keepdims=True)
    return out


def _unit(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float64).tiny))

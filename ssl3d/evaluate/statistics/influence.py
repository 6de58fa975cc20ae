"""Kappa, rank correlation, explained variance and absolute error, with influence functions.

The influence function of a score gives, to first order, the effect of each case on it; its sum over the cases of a
patient is the patient's contribution (Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans, chapter 6).
All cases count as one class. Loads neither torch nor scikit-learn.
"""

from __future__ import annotations

import numpy as np

from ssl3d.evaluate.statistics.estimate import Estimate, by_patient
from ssl3d.evaluate.statistics.limits import CORRELATION, ERROR, EXPLAINED, Scale


def estimate_kappa(targets: np.ndarray, probabilities: np.ndarray, patients: np.ndarray | None = None) -> Estimate:
    """Return Cohen's kappa with quadratic weights of the most likely class (Cohen 1968, Psychol. Bull. 70:213).

    kappa = 1 - O/E, where O is the mean squared difference of the classes, and E the same if they were independent.

    Args:
        targets: (N,) class indices.
        probabilities: (S, N, K), one layer per seed.
        patients: (N,) patient of each case; None: each case has its own patient.

    Raises:
        ValueError: all cases are of one class, and predicted to be: kappa is undefined.
    """
    a, b = targets[None].astype(float), probabilities.argmax(axis=2).astype(float)  # (1, N), (S, N)
    observed, disagreement = _mean((a - b) ** 2)
    mean_a, mean_b = a.mean(axis=1, keepdims=True), b.mean(axis=1, keepdims=True)
    E = ((a - mean_a) ** 2).mean(axis=1) + ((b - mean_b) ** 2).mean(axis=1) + (mean_a - mean_b)[:, 0] ** 2
    _require(E, "all cases are of one class, and predicted to be")
    squares, _ = _mean(a**2 + b**2)
    expected = squares - 2 * ((a - mean_a) * mean_b + (b - mean_b) * mean_a)
    influence = -observed / E[:, None] + (disagreement / E**2)[:, None] * expected
    return _estimate(1 - disagreement / E, influence, patients, CORRELATION)


def estimate_spearman(targets: np.ndarray, probabilities: np.ndarray, patients: np.ndarray | None = None) -> Estimate:
    """Return Spearman's correlation, that of midranks, of the targets with the predicted values.

    A case moves the ranks of all others, which its influence includes.

    Args:
        targets: (N,) values, or class indices.
        probabilities: (S, N, 1) predicted values, or (S, N, K) of ordered classes: their mean is the prediction.
        patients: (N,) patient of each case; None: each case has its own patient.

    Raises:
        ValueError: all targets or all predictions of a seed are equal: the correlation is undefined.
    """
    scores, influences = [], []
    for predicted in expected_values(probabilities):
        a, b = _centred_ranks(targets), _centred_ranks(predicted)
        C, A, B = (a * b).mean(), (a**2).mean(), (b**2).mean()
        _require(np.array([A, B]), "all targets or all predictions are equal")
        of_c = a * b - C + _moved(targets, b) + _moved(predicted, a)
        of_a, of_b = a**2 - A + 2 * _moved(targets, a), b**2 - B + 2 * _moved(predicted, b)
        rho = C / np.sqrt(A * B)
        scores.append(rho)
        influences.append(of_c / np.sqrt(A * B) - rho / 2 * (of_a / A + of_b / B))
    return _estimate(np.array(scores), np.stack(influences), patients, CORRELATION)


def estimate_r2(targets: np.ndarray, probabilities: np.ndarray, patients: np.ndarray | None = None) -> Estimate:
    """Return the coefficient of determination: 1 - mean squared error / variance of the targets.

    Args:
        targets: (N,) values.
        probabilities: (S, N, 1) predicted values.
        patients: (N,) patient of each case; None: each case has its own patient.

    Raises:
        ValueError: all targets are equal: the coefficient is undefined.
    """
    errors, error = _mean((probabilities[:, :, 0] - targets) ** 2)
    variance, V = _mean(((targets - targets.mean()) ** 2)[None])
    _require(V, "all targets are equal")
    return _estimate(1 - error / V, -errors / V + (error / V**2)[:, None] * variance, patients, EXPLAINED)


def estimate_mae(targets: np.ndarray, probabilities: np.ndarray, patients: np.ndarray | None = None) -> Estimate:
    """Return the mean absolute error, in the unit of the targets.

    Args:
        targets: (N,) values.
        probabilities: (S, N, 1) predicted values.
        patients: (N,) patient of each case; None: each case has its own patient.
    """
    influence, scores = _mean(np.abs(probabilities[:, :, 0] - targets))
    return _estimate(scores, influence, patients, ERROR)


def expected_values(probabilities: np.ndarray) -> np.ndarray:
    """Return predicted values (..., N): the values (..., N, 1), or the mean index of ordered classes (..., N, K)."""
    K = probabilities.shape[-1]
    return np.asarray(probabilities[..., 0] if K == 1 else probabilities @ np.arange(K))


def _estimate(scores: np.ndarray, influence: np.ndarray, patients: np.ndarray | None, scale: Scale) -> Estimate:
    N = influence.shape[1]
    return Estimate(scores, (by_patient(influence.T / N, patients, np.zeros(N, int)),), scale)


def _mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values (S, N) minus their mean over cases, and the mean (S,)."""
    mean = values.mean(axis=1)
    return values - mean[:, None], mean


def _require(positive: np.ndarray, otherwise: str) -> None:
    if (positive <= 0).any():
        raise ValueError(otherwise)


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    """Return the midranks (N,) divided by N, minus one half, which is their mean."""
    ordered = np.sort(values)
    counts = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.asarray(counts / (2 * len(values)) - 0.5)


def _moved(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return how each case moves the weighted mean rank of all: mean_j of (1[v_i < v_j] + 1[=]/2 - rank_j) w_j."""
    order = np.argsort(values, kind="stable")
    ordered, below = values[order], np.concatenate([[0.0], np.cumsum(weights[order])])
    left, right = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    above = below[-1] - (below[left] + below[right]) / 2  # ties count one half
    return np.asarray(above / len(values) - ((_centred_ranks(values) + 0.5) * weights).mean())

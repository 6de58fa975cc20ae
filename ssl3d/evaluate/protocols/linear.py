"""The linear probe: logistic regression on frozen features, its strength chosen by inner cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ssl3d.evaluate.protocols.inner import choose
from ssl3d.protocol import Prediction, check_features, class_count

STRENGTHS = tuple(float(c) for c in np.logspace(-5, 3, 9))  # C of scikit-learn, strongest penalty first
ITERATIONS = 1000


def linear(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    folds: int = 5,
    seed: int = 0,
    *,
    classes: int | None = None,
) -> Prediction:
    """Fit L2-penalised logistic regression on standardised features.

    Mean and deviation of a feature are those of the cases that are fitted, in every inner fold anew.

    Args:
        train_x: (N, F) features.
        train_y: (N,) labels in 0..K-1.
        test_x: (N_test, F) features.
        folds: inner folds that choose the penalty and the threshold.
        seed: of the inner split.
        classes: K; the largest training label + 1 if None.

    Raises:
        DataError: one class only, features that are not finite, or shapes that disagree.
    """
    train_x, test_x = np.asarray(train_x, np.float64), np.asarray(test_x, np.float64)
    K = class_count(train_y, classes)
    check_features(train_x, train_y, test_x)
    unconverged: list[float] = []

    def fit_predict(fit: np.ndarray, held: np.ndarray) -> np.ndarray:
        return _path(train_x[fit], train_y[fit], train_x[held], K, strengths=STRENGTHS, unconverged=unconverged)

    choice = choose(fit_predict, train_y, classes=K, folds=folds, seed=seed, default=STRENGTHS.index(1.0))
    strength = STRENGTHS[choice.index]
    unconverged.clear()  # what the fits of the grid ran into is no news; what the final fit does is
    probabilities = _path(train_x, train_y, test_x, K, strengths=(strength,), unconverged=unconverged)[0]  # (N_test, K)
    chosen = {"C": strength, **choice.report}
    if unconverged:
        chosen["converged"] = f"no, stopped after {ITERATIONS} iterations"
    return Prediction(probabilities, choice.threshold, chosen, choice.out_of_fold)


def _path(
    x: np.ndarray, y: np.ndarray, other: np.ndarray, K: int, *, strengths: Sequence[float], unconverged: list[float]
) -> np.ndarray:
    """Return probabilities (G, n, K) for each strength, each fit started from the one before."""
    scaler = StandardScaler().fit(x)
    x, other = scaler.transform(x), scaler.transform(other)
    model = LogisticRegression(max_iter=ITERATIONS, tol=1e-4, warm_start=True)
    rows = np.zeros((len(strengths), len(other), K))
    for row, strength in zip(rows, strengths, strict=True):
        model.set_params(C=strength)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # said in `chosen` instead
            model.fit(x, y)
        if model.n_iter_.max() >= ITERATIONS:
            unconverged.append(strength)
        row[:, model.classes_] = model.predict_proba(other)  # a class absent from training has probability 0
    return rows

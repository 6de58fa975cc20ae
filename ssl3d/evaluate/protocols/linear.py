"""The linear probe: one linear map of frozen features, with its penalty selected by inner cross-validation.

Alain & Bengio 2016, arXiv 1610.01644. Logistic regression for classes (one per label of a multi-label task), ridge
regression for values; all with an L2 penalty, on standardised features.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from ssl3d.evaluate.checks import check_features, check_targets
from ssl3d.evaluate.protocols.edge import edge_note
from ssl3d.evaluate.protocols.inner import choose
from ssl3d.evaluate.protocols.multilabel import predict_each
from ssl3d.protocol import Card, Config, FeatureProblem, FeatureProtocol, Field, Kind, OneOrMore, Prediction

TOLERANCE = 1e-4  # of the gradient, at which logistic regression stops


class LinearConfig(Config):
    """Settings of the linear probe."""

    strengths: OneOrMore = Field(
        tuple(float(c) for c in np.logspace(-5, 3, 9)),
        min_length=1,
        description="inverse penalties to choose from (C of scikit-learn), or one; strongest penalty first",
    )
    iterations: Annotated[int, Field(ge=1)] = Field(1000, description="most iterations of a fit")


class Linear(FeatureProtocol[LinearConfig]):
    """Fits a linear map of standardised features to the targets.

    Mean and standard deviation of each feature come from the cases being fitted, separately in every inner fold.
    """

    card: ClassVar[Card] = Card(
        "Linear probe",
        "regression on frozen features, its penalty chosen by inner cross-validation",
        paper="Alain & Bengio, Understanding intermediate layers using linear classifier probes",
        year=2016,
        link="https://arxiv.org/abs/1610.01644",
        departures=("fitted to convergence with an L2 penalty, instead of by stochastic gradient descent",),
    )
    kinds: ClassVar[frozenset[Kind]] = frozenset({"binary", "multiclass", "multilabel", "ordinal", "regression"})

    def predict(self, problem: FeatureProblem) -> Prediction:
        """Fit on the training features, predict the test features; see :meth:`FeatureProtocol.predict`."""
        check_targets(problem.train_y, problem.task)
        check_features(problem.train_x, problem.train_y, problem.test_x)
        return predict_each(problem, self._predict) if problem.task.kind == "multilabel" else self._predict(problem)

    def _predict(self, problem: FeatureProblem) -> Prediction:
        x, other = np.asarray(problem.train_x, np.float64), np.asarray(problem.test_x, np.float64)
        y, K = problem.train_y, problem.task.outputs
        grid = sorted(self.config.strengths)

        def path(fit: np.ndarray, queries: np.ndarray, strengths: Sequence[float]) -> tuple[np.ndarray, bool]:
            if problem.task.kind == "regression":
                return _ridge(x[fit], y[fit], queries, strengths), True
            return _logistic(x[fit], y[fit], queries, K, strengths=strengths, iterations=self.config.iterations)

        # If nothing can be held out: the value in the grid nearest to C = 1, scikit-learn's default.
        default = int(np.argmin(np.abs(np.log(grid))))
        choice = choose(lambda fit, held: path(fit, x[held], grid)[0], problem, default=default)
        strength = grid[choice.index]
        probabilities, converged = path(np.arange(len(x)), other, [strength])  # (1, N_test, K)
        chosen = {"C": strength, **choice.report}
        if not converged:
            chosen["converged"] = f"no, stopped after {self.config.iterations} iterations"
        edge = edge_note("penalty", strength, grid, "protocol.linear.strengths", inverse="C") if choice.chose else ()
        return Prediction(probabilities[0], choice.threshold, chosen, choice.out_of_fold, edge)


def _logistic(
    x: np.ndarray, y: np.ndarray, queries: np.ndarray, K: int, *, strengths: Sequence[float], iterations: int
) -> tuple[np.ndarray, bool]:
    """Fit along a path of strengths, each fit initialised with the previous one.

    Args:
        x: (N, F) features.
        y: (N,) class indices in 0..K-1.
        queries: (n, F).
        K: number of classes; a class without a training case has probability 0.
        strengths: G values of C.
        iterations: maximum number.

    Returns:
        probabilities (G, n, K), and whether every fit converged.
    """
    scaler = StandardScaler().fit(x)
    x, queries = scaler.transform(x), scaler.transform(queries)
    model = LogisticRegression(max_iter=iterations, tol=TOLERANCE, warm_start=True)
    rows, converged = np.zeros((len(strengths), len(queries), K)), True
    for row, strength in zip(rows, strengths, strict=True):
        model.set_params(C=strength)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # reported in `chosen` instead
            model.fit(x, y)
        converged &= bool(model.n_iter_.max() < iterations)
        row[:, model.classes_] = model.predict_proba(queries)
    return rows, converged


def _ridge(x: np.ndarray, y: np.ndarray, queries: np.ndarray, strengths: Sequence[float]) -> np.ndarray:
    """Return values (G, n, 1) of queries (n, F), from features (N, F) with values (N,), for each strength 1/alpha."""
    scaler = StandardScaler().fit(x)
    x, queries = scaler.transform(x), scaler.transform(queries)
    return np.stack([Ridge(alpha=1 / strength).fit(x, y).predict(queries)[:, None] for strength in strengths])

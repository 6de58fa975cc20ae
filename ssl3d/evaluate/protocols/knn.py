"""k nearest neighbours, weighted by cosine similarity (Wu et al. 2018, arXiv 1805.01978; DINO, arXiv 2104.14294).

The k training cases with the most similar features vote with weights exp(cosine / temperature), for their classes or
for the mean of their values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np

from ssl3d.evaluate.checks import check_features, check_targets
from ssl3d.evaluate.protocols.inner import choose, splits
from ssl3d.evaluate.protocols.multilabel import predict_each
from ssl3d.protocol import Card, Config, FeatureProblem, FeatureProtocol, Field, Kind, Prediction

QUERIES = 1024  # rows of the similarity matrix in memory at once


class KNNConfig(Config):
    """Settings of the nearest neighbours."""

    neighbours: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (200, 100, 50, 20, 10, 5, 3, 1),
        min_length=1,
        description="numbers of neighbours to choose from; the largest is tried first",
    )
    temperature: float = Field(0.07, gt=0, description="of the weights exp(cosine / temperature)")


class KNN(FeatureProtocol[KNNConfig]):
    """Predicts what the most similar training cases vote for.

    Their number is selected by inner cross-validation, up to the number of cases fitted in an inner fold.
    """

    card: ClassVar[Card] = Card(
        "k nearest neighbours",
        "weighted vote of the most similar frozen features, their number chosen by inner cross-validation",
        paper="Wu et al., Unsupervised feature learning via non-parametric instance discrimination",
        year=2018,
        link="https://arxiv.org/abs/1805.01978",
        departures=("the number of neighbours is chosen on the training cases, instead of 200",),
    )
    kinds: ClassVar[frozenset[Kind]] = frozenset({"binary", "multiclass", "multilabel", "ordinal", "regression"})

    def predict(self, problem: FeatureProblem) -> Prediction:
        """Let training cases vote on test cases; see :meth:`FeatureProtocol.predict`."""
        check_targets(problem.train_y, problem.task)
        check_features(problem.train_x, problem.train_y, problem.test_x)
        return predict_each(problem, self._predict) if problem.task.kind == "multilabel" else self._predict(problem)

    def _predict(self, problem: FeatureProblem) -> Prediction:
        x, other = _unit(problem.train_x), _unit(problem.test_x)
        y, task = problem.train_y, problem.task
        # (N, K) one class each; or (N, 2) a value, and a 1 whose weighted sum is the sum of the weights.
        votes = np.eye(task.outputs)[y] if task.categorical else np.stack([y, np.ones(len(y))], axis=1)
        parts = splits(y, problem.patients, task, problem.folds, problem.seed)
        voters = min([len(fit) for fit, _ in parts], default=len(y))
        grid = sorted({min(k, voters) for k in self.config.neighbours}, reverse=True)

        def predict(fit: np.ndarray, queries: np.ndarray, grid: Sequence[int]) -> np.ndarray:
            sums = vote(x[fit], votes[fit], queries, grid, self.config.temperature)  # (G, n, K), or (G, n, 2)
            found = sums / sums.sum(axis=2, keepdims=True) if task.categorical else sums[..., :1] / sums[..., 1:]
            return np.asarray(found)

        choice = choose(lambda fit, held: predict(fit, x[held], grid), problem, default=0)
        k = grid[choice.index]
        prediction = predict(np.arange(len(x)), other, [k])[0]  # (N_test, K)
        chosen = {"k": k, "temperature": self.config.temperature, **choice.report}
        return Prediction(prediction, choice.threshold, chosen, choice.out_of_fold)


def vote(x: np.ndarray, votes: np.ndarray, queries: np.ndarray, grid: Sequence[int], temperature: float) -> np.ndarray:
    """Return the weighted sums of votes (G, n, M) of n queries' neighbours, for each of G numbers of neighbours.

    Args:
        x: (N, F) unit vectors of the voting cases.
        votes: (N, M) their votes.
        queries: (n, F) unit vectors.
        grid: G numbers of neighbours, at most N.
        temperature: of the weights exp(cosine / temperature), which are divided by the largest weight of a query.
    """
    out = np.empty((len(grid), len(queries), votes.shape[1]))
    for start in range(0, len(queries), QUERIES):
        similarity = queries[start : start + QUERIES] @ x.T  # (n, N)
        near = np.argsort(-similarity, axis=1, kind="stable")[:, : max(grid)]  # (n, k)
        similarity = np.take_along_axis(similarity, near, axis=1)
        weight = np.exp((similarity - similarity[:, :1]) / temperature)  # (n, k), in range
        sums = np.cumsum(weight[:, :, None] * votes[near], axis=1)  # (n, k, M)
        out[:, start : start + QUERIES] = sums[:, np.asarray(grid) - 1].transpose(1, 0, 2)  # (G, n, M)
    return out


def _unit(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float64).tiny))

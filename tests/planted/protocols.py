"""Protocols, each with one fault, beside a sound one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from ssl3d.card import Card
from ssl3d.config import Config
from ssl3d.errors import DataError
from ssl3d.protocol import EncoderProblem, EncoderProtocol, FeatureProblem, FeatureProtocol, Prediction
from ssl3d.task import Kind


class CentroidConfig(Config):
    sharpness: float = Field(1.0, gt=0, description="of the softmax over distances")


class Centroid(FeatureProtocol[CentroidConfig]):
    """Softmax over the distances to the mean of each class."""

    card: ClassVar[Card] = Card("Centroid", "distance to the mean of each class")

    def predict(self, problem: FeatureProblem) -> Prediction:
        x, y = problem.train_x, problem.train_y
        if len(np.unique(y)) < 2:
            raise DataError("all training cases have one class; label more")
        if not np.isfinite(x).all():
            raise DataError("features are not finite; lower pretrain.lr")
        binary = problem.task.kind == "binary"
        return Prediction(
            self.fit(x, y, problem.test_x, problem),
            0.5 if binary else None,
            {"sharpness": self.config.sharpness},
            self.held_out(problem),
        )

    def fit(self, x: np.ndarray, y: np.ndarray, queries: np.ndarray, problem: FeatureProblem) -> np.ndarray:
        far = np.full(x.shape[1], 1e6)  # of a class without a case
        means = [x[y == k].mean(axis=0) if (y == k).any() else far for k in range(problem.task.outputs)]
        distance = np.linalg.norm(queries[:, None].astype(np.float64) - np.stack(means), axis=2)
        odds = np.exp(-self.config.sharpness * (distance - distance.min(axis=1, keepdims=True)))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def held_out(self, problem: FeatureProblem) -> np.ndarray:
        fold = self.folds(problem)
        out = np.zeros((len(fold), problem.task.outputs))
        for part in range(problem.folds):
            held = fold == part
            out[held] = self.fit(problem.train_x[~held], problem.train_y[~held], problem.train_x[held], problem)
        return out

    def folds(self, problem: FeatureProblem) -> np.ndarray:
        _, number = np.unique(problem.patients, return_inverse=True)
        return np.asarray(np.random.default_rng(problem.seed).permutation(number.max() + 1)[number] % problem.folds)


class Head(EncoderProtocol[CentroidConfig]):
    """A ridge regression on an encoder's features, which it does not train."""

    card: ClassVar[Card] = Card("Head", "least squares on features")
    kinds: ClassVar[frozenset[Kind]] = frozenset({"binary"})

    def predict(self, problem: EncoderProblem) -> Prediction:
        if len(np.unique(problem.train_y)) < 2:
            raise DataError("all training cases have one class; label more")
        train, test = self.encode(problem, problem.train), self.encode(problem, problem.test)
        weight = np.linalg.solve(train.T @ train + np.eye(train.shape[1]), train.T @ (2 * problem.train_y - 1))
        p = 1 / (1 + np.exp(-test @ weight))
        return Prediction(np.stack([1 - p, p], axis=1), 0.5)

    def encode(self, problem: EncoderProblem, indices: Any) -> np.ndarray:
        voxels = torch.stack(problem.source.volumes(list(indices), problem.device).voxels)
        with torch.no_grad():
            return np.asarray(self.network(problem.encoder)(voxels).double())

    def network(self, encoder: nn.Module) -> nn.Module:
        return encoder


class KindThatIsNone(Centroid):
    kinds = frozenset({"survival"})  # type: ignore[arg-type]


class NoPredict(FeatureProtocol[CentroidConfig]):
    card: ClassVar[Card] = Card("None", "predicts nothing")


class ArrayForAPrediction(Centroid):
    def predict(self, problem: FeatureProblem) -> Prediction:
        return super().predict(problem).probabilities  # type: ignore[return-value]


class SumsToTwo(Centroid):
    def predict(self, problem: FeatureProblem) -> Prediction:
        found = super().predict(problem)
        return replace(found, probabilities=np.clip(2 * found.probabilities, 0, 1))


class NoThreshold(Centroid):
    def predict(self, problem: FeatureProblem) -> Prediction:
        return replace(super().predict(problem), threshold=None)


class ArraysInChosen(Centroid):
    def predict(self, problem: FeatureProblem) -> Prediction:
        return replace(super().predict(problem), chosen={"means": np.zeros(3)})


class OutOfFoldOfSome(Centroid):
    def held_out(self, problem: FeatureProblem) -> np.ndarray:
        return super().held_out(problem)[1:]


class PatientsSeparated(Centroid):
    def folds(self, problem: FeatureProblem) -> np.ndarray:
        return np.arange(len(problem.train_y)) % problem.folds


class DrawsFromNumpy(Centroid):
    def folds(self, problem: FeatureProblem) -> np.ndarray:
        return np.random.permutation(super().folds(problem))


class ChoosesByTheClock(Centroid):
    def predict(self, problem: FeatureProblem) -> Prediction:
        return replace(super().predict(problem), chosen={"seed": float(np.random.default_rng().random())})


class StandardisesByTestCases(Centroid):
    def predict(self, problem: FeatureProblem) -> Prediction:
        std = problem.test_x.std(axis=0)
        return super().predict(replace(problem, train_x=problem.train_x / std, test_x=problem.test_x / std))


class ChangesFeatures(Centroid):
    def predict(self, problem: FeatureProblem) -> Prediction:
        found = super().predict(problem)
        problem.train_x[:] -= 1
        return found


class OneClassIsFine(Centroid):
    def predict(self, problem: FeatureProblem) -> Prediction:
        return super().predict(problem) if len(np.unique(problem.train_y)) > 1 else Prediction(np.ones((12, 2)), 0.5)


class NaNIsAnError(Centroid):
    def predict(self, problem: FeatureProblem) -> Prediction:
        if not np.isfinite(problem.train_x).all():
            raise ValueError("NaN")
        return super().predict(problem)


class TrainsTheEncoderItself(Head):
    def network(self, encoder: nn.Module) -> nn.Module:
        with torch.no_grad():
            next(encoder.parameters()).mul_(1.01)
        return encoder


class LeavesTheEncoderInEvaluation(Head):
    def network(self, encoder: nn.Module) -> nn.Module:
        return encoder.eval()


class FreezesTheEncoder(Head):
    def network(self, encoder: nn.Module) -> nn.Module:
        return encoder.requires_grad_(False)

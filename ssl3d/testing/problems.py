"""Small problems for protocols: features in clouds, or volumes of noise on a toy backbone; two cases per patient."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ssl3d.config import Config
from ssl3d.protocol import (
    EncoderProblem,
    EncoderProtocol,
    FeatureProblem,
    FeatureProtocol,
    Prediction,
    Protocol,
)
from ssl3d.recipe import AugmentRecipe
from ssl3d.task import Kind, Task
from ssl3d.testing.randomness import seeded
from ssl3d.testing.runner import BrokenRuleError
from ssl3d.testing.shrink import shrink
from ssl3d.testing.toys import SIZE, ToyBackbone, ToySource, toy_task

TRAIN, TEST, FOLDS = 48, 12, 3  # cases on features
VOLUMES = (24, 6)  # training and test cases on volumes
FEATURES = 5
Problem = FeatureProblem | EncoderProblem


class ProtocolKit:
    """What rules look at of a protocol's class.

    Args:
        kind: the class.
        settings: fields of its configuration in place of the defaults.
    """

    def __init__(self, kind: type[Protocol[Any]], settings: Mapping[str, Any] | None = None) -> None:
        self.kind = kind
        self.settings = dict(settings or {})
        self._predictions: dict[Kind, Prediction] = {}

    @cached_property
    def small(self) -> dict[str, Any]:
        """Settings made small: of a protocol that trains the encoder, which takes long."""
        return shrink(self.kind.Config, self.settings) if issubclass(self.kind, EncoderProtocol) else {}

    @property
    def config(self) -> Config:
        """The settings that are checked."""
        return self.kind.Config.checked({**self.settings, **self.small}, self.kind.__name__)

    def predict(self, problem: Problem) -> Prediction:
        """Return what a fresh instance predicts."""
        protocol = self.kind(self.config)
        if isinstance(protocol, FeatureProtocol) and isinstance(problem, FeatureProblem):
            found: object = protocol.predict(problem)
        elif isinstance(protocol, EncoderProtocol) and isinstance(problem, EncoderProblem):
            found = protocol.predict(problem)
        else:
            raise BrokenRuleError(f"{self.kind.__name__} is derived from neither FeatureProtocol nor EncoderProtocol")
        if not isinstance(found, Prediction):
            raise BrokenRuleError(f"predict returned a {type(found).__name__}; return Prediction(probabilities, ...)")
        return found

    def prediction(self, kind: Kind) -> Prediction:
        """Return what is predicted of the toy problem of a kind; made once."""
        if kind not in self._predictions:
            self._predictions[kind] = self.predict(self.problem(kind))
        return self._predictions[kind]

    @property
    def first(self) -> Kind:
        """The kind of task that most rules look at: binary, or else the first that the protocol takes."""
        return "binary" if "binary" in self.kind.kinds else min(self.kind.kinds)

    def problem(self, kind: Kind) -> Problem:
        """Return the toy problem of a kind of task."""
        task = toy_task(kind)
        if issubclass(self.kind, EncoderProtocol):
            return _volumes(task)
        rng = np.random.default_rng(1)
        y = _targets(task, TRAIN + TEST)
        axes = y.reshape(len(y), -1) if kind in {"regression", "multilabel"} else np.eye(task.outputs)[y]
        x = rng.standard_normal((len(y), FEATURES)).astype(np.float32)
        x[:, : axes.shape[1]] += 1.5 * axes
        return FeatureProblem(x[:TRAIN], y[:TRAIN], x[TRAIN:], task, _patients(TRAIN), FOLDS)


def _volumes(task: Task) -> EncoderProblem:
    train, test = VOLUMES
    with seeded(0):
        encoder = ToyBackbone()
    return EncoderProblem(
        encoder=encoder,
        source=ToySource(train + test),
        train=range(train),
        test=range(train, train + test),
        train_y=_targets(task, train),
        task=task,
        patients=_patients(train),
        augment=AugmentRecipe(),
        view_size=SIZE,
        batch_size=4,
        device=torch.device("cpu"),
        folds=FOLDS,
    )


def _targets(task: Task, count: int) -> np.ndarray:
    """Return targets (N,), or (N, L), in which every class is as frequent as the others."""
    number = np.arange(count)
    if task.kind == "regression":
        return np.asarray(np.sin(1.7 * number))
    if task.kind == "multilabel":
        return np.stack([number // 2 ** (label + 1) % 2 for label in range(task.outputs)], axis=1)
    classes: np.ndarray = number // 2 % task.outputs
    return classes


def _patients(count: int) -> np.ndarray:
    """Return patients (N,), two cases of each."""
    return np.asarray([f"patient {number // 2}" for number in range(count)])

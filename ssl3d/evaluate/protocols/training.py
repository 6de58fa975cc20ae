"""The steps of fine-tuning: a copy of an encoder with a linear head, trained end to end, and its predictions."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.backbone import Backbone
from ssl3d.data.augment import Augment
from ssl3d.data.rng import Rng, mix
from ssl3d.errors import RecipeError
from ssl3d.evaluate.features import evaluating
from ssl3d.evaluate.protocols.crops import evaluation_views
from ssl3d.evaluate.protocols.objective import Objective
from ssl3d.protocol import EncoderProblem

if TYPE_CHECKING:
    from ssl3d.evaluate.protocols.finetune import FinetuneConfig

WEIGHT_DECAY = 1e-2
VIEWS = 0xF17E  # random stream of the training views
LOWER = "lower protocol.finetune.lr"


class DivergedError(RecipeError):
    """The loss or a prediction is not finite: the learning rate is too high."""


@dataclass(frozen=True)
class Setup:
    """The settings shared by all trainings of one fine-tuning. Cases are numbered 0..N-1, as in ``problem.train``.

    Attributes:
        problem: encoder, volumes, targets and patients.
        config: epochs, batch, balance, crops.
        augment: makes training views; its size is also that of evaluation.
    """

    problem: EncoderProblem
    config: FinetuneConfig
    augment: Augment


class Model(nn.Module):
    """A copy of an encoder with a linear head that starts at zero, so that all classes are equally likely at first.

    Args:
        encoder: encoder to copy.
        objective: objective of the training; its task has K outputs.
    """

    def __init__(self, encoder: Backbone, objective: Objective) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(True)
        self.objective = objective
        weight = next(self.encoder.parameters())
        self.weight = nn.Parameter(weight.new_zeros(objective.task.outputs, encoder.embed_dim))
        self.bias = nn.Parameter(weight.new_zeros(objective.task.outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the head's outputs (B, K) for volumes (B, C, D, H, W)."""
        return F.linear(self.encoder(x), self.weight, self.bias)


def new_model(setup: Setup, cases: np.ndarray) -> Model:
    """Return a new model for training cases (n,)."""
    problem = setup.problem
    y = problem.train_y[cases]
    objective = Objective.of(problem.task, y, balance=setup.config.balance, device=problem.device)
    return Model(problem.encoder, objective)


def train_epochs(setup: Setup, model: Model, cases: np.ndarray, lr: float, count: int) -> Iterator[int]:
    """Train a fresh model on training cases (n,); yield the number of epochs done after each of ``count``.

    AdamW; the learning rate falls from ``lr`` along a cosine over all configured epochs, whatever ``count`` is.

    Raises:
        DivergedError: the loss is not finite.
    """
    config, y = setup.config, setup.problem.train_y[cases]
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)
    batches = math.ceil(len(cases) / config.batch_size)
    balanced = config.balance == "sampling" and setup.problem.task.categorical
    for epoch in range(count):
        order = epoch_order(y, [setup.problem.seed, epoch], balanced=balanced)
        for index, part in enumerate(np.array_split(order, batches)):  # nearly equal parts: no batch of one
            share = (epoch + index / batches) / config.epochs
            optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * share)) / 2
            loss = _loss(setup, model, cases[part], epoch * batches + index)
            if not torch.isfinite(loss):
                raise DivergedError(f"fine-tuning diverged in epoch {epoch + 1}: {LOWER}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimizer.step()
        yield epoch + 1


def epoch_order(y: np.ndarray, key: Sequence[int], balanced: bool) -> np.ndarray:
    """Return N indices of training cases in the order of one epoch.

    Args:
        y: (N,) class indices; other targets if not balanced.
        key: seed and epoch, which decide the order.
        balanced: draw every class equally often (within one), and so every case of a class; rare cases are repeated.
            Otherwise each case comes once.
    """
    rng = np.random.default_rng(key)
    if not balanced:
        return rng.permutation(len(y))
    members = [np.flatnonzero(y == value) for value in rng.permutation(np.unique(y))]
    quotas = [len(part) for part in np.array_split(y, len(members))]  # N in nearly equal parts
    drawn = [np.resize(rng.permutation(group), quota) for group, quota in zip(members, quotas, strict=True)]
    return rng.permutation(np.concatenate(drawn))


def predict(setup: Setup, model: Model, volumes: Sequence[int]) -> np.ndarray:
    """Return probabilities or values (n, K) for volumes of the source, by index, each the mean over its views.

    The effect of class weights is undone after the mean, so that the AUC of a binary task does not change.

    Raises:
        DivergedError: an output is not finite.
    """
    problem = setup.problem
    rows = np.empty((len(volumes), problem.task.outputs))
    with evaluating(model), torch.no_grad():
        for start in range(0, len(volumes), problem.batch_size):
            part = list(volumes[start : start + problem.batch_size])
            read = problem.source.volumes(part, problem.device)
            views = evaluation_views(read, setup.augment.size, setup.config.crops)
            predictions = torch.stack([_predict_view(model, view) for view in views])  # (views, B, K)
            rows[start : start + len(part)] = model.objective.calibrate(predictions.mean(dim=0)).cpu().numpy()
    return rows


def _predict_view(model: Model, view: Tensor) -> Tensor:
    outputs: Tensor = model(view.to(model.weight.dtype))  # (B, K)
    if not torch.isfinite(outputs).all():
        raise DivergedError(f"fine-tuning gives values that are not finite: {LOWER}")
    return model.objective.predict(outputs)


def _loss(setup: Setup, model: Model, cases: np.ndarray, step: int) -> Tensor:
    problem = setup.problem
    volumes = problem.source.volumes([problem.train[i] for i in cases], problem.device)
    rng = Rng(int(mix(problem.seed, VIEWS) >> 1), step, range(len(cases)), problem.device)
    view = setup.augment(volumes, rng).to(model.weight.dtype)  # (B, C, D, H, W)
    y = torch.from_numpy(problem.train_y[cases]).to(problem.device)
    return model.objective.loss(model(view), y)

"""The steps of fine-tuning: a copy of an encoder with a linear head, trained end to end, and what it predicts."""

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
from ssl3d.protocol import EncoderProblem

if TYPE_CHECKING:
    from ssl3d.evaluate.protocols.finetune import FinetuneConfig

WEIGHT_DECAY = 1e-2
VIEWS = 0xF17E  # stream of random numbers that training views are drawn from
LOWER = "lower protocol.finetune.lr"


class DivergedError(RecipeError):
    """The loss, or a prediction, is not finite: the learning rate is too high."""


@dataclass(frozen=True)
class Setup:
    """What all trainings of one fine-tuning share. Cases are numbered 0..N-1, as in ``problem.train``.

    Attributes:
        problem: encoder, volumes, class indices and patients.
        config: epochs, batch, balance, crops.
        augment: makes training views; its size is that of evaluation, too.
    """

    problem: EncoderProblem
    config: FinetuneConfig
    augment: Augment


class Classifier(nn.Module):
    """An encoder and a linear head, which starts at zero: every class is equally likely at first."""

    def __init__(self, encoder: Backbone, classes: int) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(True)
        weight = next(self.encoder.parameters())
        self.weight = nn.Parameter(weight.new_zeros(classes, encoder.embed_dim))
        self.bias = nn.Parameter(weight.new_zeros(classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K) of volumes (B, C, D, H, W)."""
        return F.linear(self.encoder(x), self.weight, self.bias)


def train_epochs(setup: Setup, model: Classifier, cases: np.ndarray, lr: float, count: int) -> Iterator[int]:
    """Train a fresh classifier on training cases (n,); yield the number of epochs done after each of ``count``.

    AdamW; the learning rate falls from ``lr`` along the cosine of all the configured epochs, whatever ``count`` is.

    Raises:
        DivergedError: the loss is not finite.
    """
    config, y = setup.config, setup.problem.train_y[cases]
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)
    weight = class_weights(y, len(model.bias)).to(model.bias.device) if config.balance == "weights" else None
    batches = math.ceil(len(cases) / config.batch_size)
    for epoch in range(count):
        order = epoch_order(y, [setup.problem.seed, epoch], balanced=config.balance == "sampling")
        for index, part in enumerate(np.array_split(order, batches)):  # nearly equal parts: no batch of one
            share = (epoch + index / batches) / config.epochs
            optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * share)) / 2
            loss = _loss(setup, model, cases[part], epoch * batches + index, weight)
            if not torch.isfinite(loss):
                raise DivergedError(f"fine-tuning diverged in epoch {epoch + 1}: {LOWER}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimizer.step()
        yield epoch + 1


def epoch_order(labels: np.ndarray, key: Sequence[int], balanced: bool) -> np.ndarray:
    """Return N indices of training cases in the order of one epoch.

    Args:
        labels: (N,) their classes.
        key: seed and epoch, which decide the order.
        balanced: draw every class equally often, to within one: rare ones repeatedly, each case as often as the others
            of its class, to within one. Otherwise each case comes once.
    """
    rng = np.random.default_rng(key)
    if not balanced:
        return rng.permutation(len(labels))
    members = [np.flatnonzero(labels == value) for value in rng.permutation(np.unique(labels))]
    quotas = [len(part) for part in np.array_split(labels, len(members))]  # N in nearly equal parts
    drawn = [np.resize(rng.permutation(group), quota) for group, quota in zip(members, quotas, strict=True)]
    return rng.permutation(np.concatenate(drawn))


def class_weights(labels: np.ndarray, K: int) -> Tensor:
    """Return (K,) weights N / (K' n_k), with K' the classes present: over the training cases they average to 1."""
    counts = np.bincount(labels, minlength=K)
    weights = np.zeros(K)
    weights[counts > 0] = len(labels) / ((counts > 0).sum() * counts[counts > 0])
    return torch.from_numpy(weights).float()


def predict(setup: Setup, model: Classifier, volumes: Sequence[int]) -> np.ndarray:
    """Return probabilities (n, K) of volumes of the source, by number, each the mean over its views.

    Raises:
        DivergedError: a logit is not finite.
    """
    problem = setup.problem
    rows = np.empty((len(volumes), len(model.bias)))
    with evaluating(model), torch.no_grad():
        for start in range(0, len(volumes), problem.batch_size):
            part = list(volumes[start : start + problem.batch_size])
            read = problem.source.volumes(part, problem.device)
            views = evaluation_views(read, setup.augment.size, setup.config.crops)
            probabilities = torch.stack([_probabilities(model, view) for view in views])  # (views, B, K)
            rows[start : start + len(part)] = probabilities.mean(dim=0).cpu().numpy()
    return rows


def _probabilities(model: Classifier, view: Tensor) -> Tensor:
    logits: Tensor = model(view.to(model.weight.dtype))  # (B, K)
    if not torch.isfinite(logits).all():
        raise DivergedError(f"fine-tuning gives values that are not finite: {LOWER}")
    return logits.double().softmax(dim=1)


def _loss(setup: Setup, model: Classifier, cases: np.ndarray, step: int, weight: Tensor | None) -> Tensor:
    problem = setup.problem
    volumes = problem.source.volumes([problem.train[i] for i in cases], problem.device)
    rng = Rng(int(mix(problem.seed, VIEWS) >> 1), step, range(len(cases)), problem.device)
    view = setup.augment(volumes, rng).to(model.weight.dtype)  # (B, C, D, H, W)
    logits = model(view)  # (B, K)
    y = torch.from_numpy(problem.train_y[cases]).to(problem.device)
    # Divided by B rather than by the weights' sum, so that a batch of one class counts no more than its share.
    return F.cross_entropy(logits.float(), y, weight=weight, reduction="sum") / len(cases)

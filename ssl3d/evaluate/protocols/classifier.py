"""The steps of fine-tuning: a copy of an encoder with a linear head, trained end to end, and what it predicts."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.backbone import Backbone
from ssl3d.data.augment import Augment
from ssl3d.data.rng import Rng, mix
from ssl3d.errors import RecipeError
from ssl3d.evaluate.features import Source, evaluating
from ssl3d.evaluate.protocols.crops import judged_views
from ssl3d.recipe import EvaluateRecipe

WEIGHT_DECAY = 1e-2


class DivergedError(RecipeError):
    """The loss, or a prediction, is not finite: the learning rate is too high."""


@dataclass(frozen=True)
class Tuning:
    """What every run of a fine-tuning shares.

    Attributes:
        encoder: the pretrained network, copied before it is trained.
        source: of the volumes.
        labels: (number of volumes in the source,), class of each; read only at training volumes.
        classes: K.
        recipe: epochs, batch, balance, crops.
        augment: makes training views, its size is that of test volumes, too.
        device: where it happens.
        seed: of order, views and dropout.
    """

    encoder: Backbone
    source: Source
    labels: np.ndarray
    classes: int
    recipe: EvaluateRecipe
    augment: Augment
    device: torch.device
    seed: int


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


def epochs(tuning: Tuning, model: Classifier, train: Sequence[int], lr: float, count: int) -> Iterator[int]:
    """Train a fresh classifier; yield the number of epochs done after each of ``count``.

    AdamW; the learning rate falls from ``lr`` along the cosine of all the recipe's epochs, whatever ``count`` is.

    Raises:
        DivergedError: the loss is not finite.
    """
    recipe = tuning.recipe
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)
    labels = tuning.labels[list(train)]
    weight = class_weights(labels, tuning.classes) if recipe.finetune_balance == "weights" else None
    batches = math.ceil(len(train) / recipe.finetune_batch_size)
    for epoch in range(count):
        order = epoch_order(labels, [tuning.seed, epoch], balanced=recipe.finetune_balance == "sampling")
        for index, batch in enumerate(np.array_split(order, batches)):  # nearly equal parts: no batch of one
            share = (epoch + index / batches) / recipe.finetune_epochs
            optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * share)) / 2
            loss = _loss(tuning, model, [train[i] for i in batch], epoch * batches + index, weight)
            if not torch.isfinite(loss):
                raise DivergedError(f"fine-tuning diverged in epoch {epoch + 1}: lower evaluate.finetune_lr")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimizer.step()
        yield epoch + 1


def epoch_order(labels: np.ndarray, key: Sequence[int], balanced: bool) -> np.ndarray:
    """Return N places of training volumes in the order of one epoch.

    Args:
        labels: (N,) their classes.
        key: seed and epoch, which decide the order.
        balanced: draw every class equally often, to within one: rare ones again and again, each case as often as the
            others of its class, to within one. Otherwise each volume comes once.
    """
    rng = np.random.default_rng(key)
    if not balanced:
        return rng.permutation(len(labels))
    members = [np.flatnonzero(labels == value) for value in rng.permutation(np.unique(labels))]
    quotas = [len(part) for part in np.array_split(labels, len(members))]  # N in nearly equal parts
    drawn = [np.resize(rng.permutation(group), quota) for group, quota in zip(members, quotas, strict=True)]
    return rng.permutation(np.concatenate(drawn))


def class_weights(labels: np.ndarray, K: int) -> Tensor:
    """Return (K,) weights N / (K' n_k), with K' the classes there are: over the training volumes they average to 1."""
    counts = np.bincount(labels, minlength=K)
    weights = np.zeros(K)
    weights[counts > 0] = len(labels) / ((counts > 0).sum() * counts[counts > 0])
    return torch.from_numpy(weights).float()


def predict(tuning: Tuning, model: Classifier, indices: Sequence[int]) -> np.ndarray:
    """Return probabilities (N, K) of volumes, each the mean over its views.

    Raises:
        DivergedError: a logit is not finite.
    """
    rows = np.empty((len(indices), tuning.classes))
    with evaluating(model), torch.no_grad():
        for start in range(0, len(indices), tuning.recipe.batch_size):
            part = list(indices[start : start + tuning.recipe.batch_size])
            volumes = tuning.source.volumes(part, tuning.device)
            views = judged_views(volumes, tuning.augment.size, tuning.recipe.finetune_crops)
            probabilities = torch.stack([_probabilities(model, view) for view in views])  # (views, B, K)
            rows[start : start + len(part)] = probabilities.mean(dim=0).cpu().numpy()
    return rows


def _probabilities(model: Classifier, view: Tensor) -> Tensor:
    logits: Tensor = model(view.to(model.weight.dtype))  # (B, K)
    if not torch.isfinite(logits).all():
        raise DivergedError("fine-tuning gives values that are not finite: lower evaluate.finetune_lr")
    return logits.double().softmax(dim=1)


def _loss(tuning: Tuning, model: Classifier, batch: Sequence[int], step: int, weight: Tensor | None) -> Tensor:
    volumes = tuning.source.volumes(batch, tuning.device)
    rng = Rng(int(mix(tuning.seed, 0xF17E) >> 1), step, range(len(batch)), tuning.device)
    view = tuning.augment(volumes, rng).to(model.weight.dtype)  # (B, C, D, H, W)
    y = torch.from_numpy(tuning.labels[list(batch)]).to(tuning.device)
    logits = model(view)  # (B, K)
    weight = None if weight is None else weight.to(tuning.device)
    # Divided by B rather than by the weights' sum, so that a batch of one class counts no more than its share.
    return F.cross_entropy(logits.float(), y, weight=weight, reduction="sum") / len(batch)

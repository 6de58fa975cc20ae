"""Fine-tuning: a copy of the encoder with a linear head, trained end to end on the labelled training volumes.

The number of epochs is chosen on a stratified part of the training volumes, held out; then a fresh copy is trained on
all of them for that many epochs, along the same learning-rate curve, and sees the test volumes once.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.backbone import Backbone
from ssl3d.data.augment import Augment, whole
from ssl3d.data.rng import Rng, mix
from ssl3d.errors import RecipeError
from ssl3d.evaluate.features import Source, evaluating
from ssl3d.evaluate.inner import criterion, criterion_score, negative_log_loss, splits
from ssl3d.evaluate.protocol import Prediction, best_threshold, class_count
from ssl3d.recipe import AugmentRecipe, EvaluateRecipe

WEIGHT_DECAY = 1e-2
Progress = Callable[[int, int], None]


def light(recipe: AugmentRecipe) -> AugmentRecipe:
    """Return a gentler version of a pretraining augmentation: most of the volume stays in view, no blur."""
    return recipe.model_copy(
        update={
            "crop": (max(recipe.crop[0], 0.8), 1.0),
            "depth": (max(recipe.depth[0], 0.9), 1.0),
            "aspect": (max(recipe.aspect[0], 0.9), max(1.0, min(recipe.aspect[1], 1.1))),
            "brightness": min(recipe.brightness, 0.1),
            "contrast": min(recipe.contrast, 0.1),
            "gamma": min(recipe.gamma, 0.1),
            "noise": min(recipe.noise, 0.05),
            "blur": 0.0,
            "slice_dropout": 0.0,
        }
    )


@dataclass(frozen=True)
class Tuning:
    """What every run of a fine-tuning shares.

    Attributes:
        encoder: the pretrained network, copied before it is trained.
        source: of the volumes.
        labels: (number of volumes in the source,), class of each; read only at training volumes.
        classes: K.
        recipe: epochs, learning rate, batch, folds.
        augment: makes training views, its size is that of test volumes, too.
        device: where it happens.
        seed: of order, views and dropout.
        autocast: bfloat16, or None for the encoder's own precision.
    """

    encoder: Backbone
    source: Source
    labels: np.ndarray
    classes: int
    recipe: EvaluateRecipe
    augment: Augment
    device: torch.device
    seed: int
    autocast: torch.dtype | None = None


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


def finetune(
    encoder: Backbone,
    source: Source,
    train: Sequence[int],
    test: Sequence[int],
    labels: np.ndarray,
    *,
    recipe: EvaluateRecipe,
    augment: Augment,
    device: torch.device,
    seed: int = 0,
    classes: int | None = None,
    autocast: torch.dtype | None = None,
    progress: Progress | None = None,
) -> Prediction:
    """Fine-tune a copy of the encoder and predict the test volumes.

    AdamW, cosine learning rate, cross entropy weighted so that every class counts the same. The encoder that is handed
    in, and the global random state, stay as they were.

    Args:
        encoder: on ``device``.
        source: of the volumes.
        train: numbers of the training volumes in the source.
        test: numbers of the test volumes.
        labels: (len(train),), class of each training volume.
        recipe: epochs, learning rate, batch, folds (one of which is held out to choose the epoch).
        augment: makes training views (see :func:`light`); its size is that of test volumes, too.
        device: where it happens.
        seed: of order, views and dropout.
        classes: K; the largest training label + 1 if None.
        autocast: bfloat16, or None for the encoder's own precision.
        progress: told (epochs done, epochs there will be at most) after every epoch.

    Raises:
        DataError: one class only.
        RecipeError: the loss, or a prediction, is not finite.
    """
    K = class_count(labels, classes)
    y = np.full(max(train) + 1, -1)
    y[list(train)] = labels
    tuning = Tuning(encoder, source, y, K, recipe, augment, device, seed, autocast)
    total = recipe.finetune_epochs
    with _seeded(seed, device):
        epochs, threshold, chosen = _choose_epochs(tuning, train, labels, _shifted(progress, 0, 2 * total))
        done = total if "held_out" in chosen else 0
        model = Classifier(encoder, K)
        for epoch in _epochs(tuning, model, train, epochs):
            _tell(progress, done + epoch, done + epochs)
        return Prediction(_predict(tuning, model, test), threshold, chosen)


def _choose_epochs(
    tuning: Tuning, train: Sequence[int], labels: np.ndarray, progress: Progress | None
) -> tuple[int, float | None, dict[str, object]]:
    """Return epochs, threshold and a report, from one fold of the training volumes held out."""
    total = tuning.recipe.finetune_epochs
    parts = splits(labels, tuning.recipe.inner_folds, tuning.seed)
    if not parts:
        note = "a class has one training case only: nothing could be held out to choose by"
        return total, 0.5 if tuning.classes == 2 else None, {"epochs": total, "note": note}
    fit, held = parts[0]
    held_volumes, held_y = [train[i] for i in held], labels[held]
    best, best_score, best_p = 0, (-math.inf, -math.inf), np.zeros((len(held), tuning.classes))
    model = Classifier(tuning.encoder, tuning.classes)
    for epoch in _epochs(tuning, model, [train[i] for i in fit], total):
        probabilities = _predict(tuning, model, held_volumes)
        # Few cases are held out, so epochs often tie by AUC; of these, the one with the best log loss is taken.
        score = criterion_score(held_y, probabilities), negative_log_loss(held_y, probabilities)
        if score > best_score:
            best, best_score, best_p = epoch, score, probabilities
        _tell(progress, epoch, total)
    threshold = best_threshold(held_y, best_p[:, 1]) if tuning.classes == 2 else None
    report = {"criterion": criterion(tuning.classes), "score": best_score[0], "held_out": len(held)}
    return best, threshold, {"epochs": best, "of": total, **report}


def _epochs(tuning: Tuning, model: Classifier, train: Sequence[int], count: int) -> Iterator[int]:
    """Train a fresh classifier; yield the number of epochs done after each of ``count``."""
    recipe = tuning.recipe
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.finetune_lr[0], weight_decay=WEIGHT_DECAY)
    weight = _class_weights(tuning.labels[list(train)], tuning.classes).to(tuning.device)
    batches = math.ceil(len(train) / recipe.finetune_batch_size)
    for epoch in range(count):
        order = np.random.default_rng([tuning.seed, epoch]).permutation(len(train))
        for index, batch in enumerate(np.array_split(order, batches)):  # nearly equal parts: no batch of one
            share = (epoch + index / batches) / recipe.finetune_epochs
            optimizer.param_groups[0]["lr"] = recipe.finetune_lr[0] * (1 + math.cos(math.pi * share)) / 2
            step = epoch * batches + index
            loss = _loss(tuning, model, [train[i] for i in batch], step, weight)
            if not torch.isfinite(loss):
                raise RecipeError(f"fine-tuning diverged in epoch {epoch + 1}: lower evaluate.finetune_lr")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimizer.step()
        yield epoch + 1


def _loss(tuning: Tuning, model: Classifier, batch: Sequence[int], step: int, weight: Tensor) -> Tensor:
    volumes = tuning.source.volumes(batch, tuning.device)
    rng = Rng(int(mix(tuning.seed, 0xF17E) >> 1), step, range(len(batch)), tuning.device)
    view = tuning.augment(volumes, rng).to(model.weight.dtype)  # (B, C, D, H, W)
    y = torch.from_numpy(tuning.labels[list(batch)]).to(tuning.device)
    with torch.autocast(tuning.device.type, tuning.autocast, tuning.autocast is not None):
        logits = model(view)  # (B, K)
    # Divided by B rather than by the weights' sum, so that a batch of one class counts no more than its share.
    return F.cross_entropy(logits.float(), y, weight=weight, reduction="sum") / len(batch)


def _class_weights(y: np.ndarray, K: int) -> Tensor:
    """N / (K' n_k), with K' the classes there are: their weights over the training volumes average to 1."""
    counts = np.bincount(y, minlength=K)
    weights = np.zeros(K)
    weights[counts > 0] = len(y) / ((counts > 0).sum() * counts[counts > 0])
    return torch.from_numpy(weights).float()


def _predict(tuning: Tuning, model: Classifier, indices: Sequence[int]) -> np.ndarray:
    """Return probabilities (N, K) of whole volumes."""
    rows = []
    with evaluating(model), torch.no_grad():
        for start in range(0, len(indices), tuning.recipe.batch_size):
            volumes = tuning.source.volumes(list(indices[start : start + tuning.recipe.batch_size]), tuning.device)
            x = whole(volumes, tuning.augment.size).to(model.weight.dtype)
            with torch.autocast(tuning.device.type, tuning.autocast, tuning.autocast is not None):
                logits = model(x)
            if not torch.isfinite(logits).all():
                raise RecipeError("fine-tuning gives values that are not finite: lower evaluate.finetune_lr")
            rows.append(logits.double().softmax(dim=1).cpu().numpy())
    return np.concatenate(rows) if rows else np.empty((0, tuning.classes))


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed what layers draw (dropout), and put the global generators back afterwards."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def _shifted(progress: Progress | None, done: int, total: int) -> Progress | None:
    return None if progress is None else lambda epoch, _: progress(done + epoch, total)


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)

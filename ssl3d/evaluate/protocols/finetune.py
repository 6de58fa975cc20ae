"""Fine-tuning: a copy of the encoder with a linear head, trained end to end on the labelled training volumes.

Learning rate and number of epochs are chosen on a stratified part of the training volumes, held out: one trial a rate.
Then a fresh copy is trained on all of them for that many epochs, along the same learning-rate curve, and sees the test
volumes once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ssl3d.backbone import Backbone
from ssl3d.data.augment import Augment
from ssl3d.evaluate.features import Source
from ssl3d.evaluate.protocols.classifier import Classifier, DivergedError, Tuning, epochs, predict
from ssl3d.evaluate.protocols.inner import criterion, criterion_score, negative_log_loss, splits
from ssl3d.protocol import Prediction, best_threshold, class_count
from ssl3d.recipe import AugmentRecipe, EvaluateRecipe

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
    progress: Progress | None = None,
) -> Prediction:
    """Fine-tune a copy of the encoder and predict the test volumes.

    AdamW, cosine learning rate, cross entropy. Of test and held-out volumes alike, the probabilities are the mean over
    ``finetune_crops`` views (see :mod:`ssl3d.evaluate.protocols.crops`). The encoder that is handed in, and the global random
    state, stay as they were.

    Args:
        encoder: on ``device``.
        source: of the volumes.
        train: numbers of the training volumes in the source.
        test: numbers of the test volumes.
        labels: (len(train),), class of each training volume.
        recipe: epochs, learning rates, batch, balance, crops, folds (one of which is held out to choose by).
        augment: makes training views (see :func:`light`); its size is that of test volumes, too.
        device: where it happens.
        seed: of order, views and dropout.
        classes: K; the largest training label + 1 if None.
        progress: told (epochs done, epochs there will be at most) after every epoch.

    Raises:
        DataError: one class only.
        RecipeError: the loss, or a prediction, is not finite, with every learning rate.
    """
    K = class_count(labels, classes)
    y = np.full(max(train) + 1, -1)
    y[list(train)] = labels
    tuning = Tuning(encoder, source, y, K, recipe, augment, device, seed)
    trials = _trials(tuning, train, labels, progress)
    best, chosen = _chosen(trials, recipe, K)
    with _seeded(seed, device):  # anew: what the trials drew leaves no trace
        model, done = Classifier(encoder, K), len(trials) * recipe.finetune_epochs
        for epoch in epochs(tuning, model, train, best.lr, best.epochs):
            _tell(progress, done + epoch, done + best.epochs)
        return Prediction(predict(tuning, model, test), best.threshold, chosen)


@dataclass(frozen=True)
class Trial:
    """What one learning rate came to on the volumes held out.

    Attributes:
        lr: the rate.
        epochs: after which it did best.
        score: AUC, or minus the log loss, and then minus the log loss: few volumes are held out, so AUCs often tie.
        threshold: that fits; None for more than two classes.
        held_out: number of volumes.
        failure: why there is no score.
    """

    lr: float
    epochs: int
    score: tuple[float, float] = (-np.inf, -np.inf)
    threshold: float | None = None
    held_out: int = 0
    failure: DivergedError | None = None


def _trials(tuning: Tuning, train: Sequence[int], labels: np.ndarray, progress: Progress | None) -> list[Trial]:
    """One trial a learning rate, all on the same volumes held out; none where a class has one case only."""
    parts = splits(labels, tuning.recipe.inner_folds, tuning.seed)
    if not parts:
        return []
    fit, held = ([train[i] for i in part] for part in parts[0])
    rates, found = tuning.recipe.finetune_lr, []
    for number, lr in enumerate(rates):
        best = Trial(lr, 0)
        try:
            with _seeded(tuning.seed, tuning.device):  # every rate with the same draws
                for trial in _trial(tuning, fit, held, lr):
                    best = max(best, trial, key=lambda one: one.score)
                    done = number * tuning.recipe.finetune_epochs + trial.epochs
                    _tell(progress, done, (len(rates) + 1) * tuning.recipe.finetune_epochs)
        except DivergedError as failure:  # another rate may do; if none does, it is raised
            best = Trial(lr, 0, failure=failure)
        found.append(best)
    return found


def _trial(tuning: Tuning, fit: Sequence[int], held: Sequence[int], lr: float) -> Iterator[Trial]:
    """Train on some volumes, and yield how well others are predicted after every epoch."""
    y = tuning.labels[list(held)]
    model = Classifier(tuning.encoder, tuning.classes)
    for epoch in epochs(tuning, model, fit, lr, tuning.recipe.finetune_epochs):
        p = predict(tuning, model, held)
        threshold = best_threshold(y, p[:, 1]) if tuning.classes == 2 else None
        yield Trial(lr, epoch, (criterion_score(y, p), negative_log_loss(y, p)), threshold, len(held))


def _chosen(trials: Sequence[Trial], recipe: EvaluateRecipe, K: int) -> tuple[Trial, dict[str, Any]]:
    """Return the best trial, the first of equal ones, and a report."""
    total = recipe.finetune_epochs
    if not trials:
        note = "a class has one training case only: nothing could be held out to choose by"
        best = Trial(recipe.finetune_lr[0], total, threshold=0.5 if K == 2 else None)
        return best, {"lr": best.lr, "epochs": total, "note": note}
    sound = [trial for trial in trials if trial.failure is None]
    if not sound and trials[0].failure is not None:
        raise trials[0].failure
    best = max(sound, key=lambda trial: trial.score)
    rates = {str(trial.lr): None if trial.failure else trial.score[0] for trial in trials}
    report: dict[str, Any] = {"lr": best.lr, "epochs": best.epochs, "of": total, "criterion": criterion(K)}
    report |= {"score": best.score[0], "held_out": best.held_out, "rates": rates}
    failed = [rate for rate, score in rates.items() if score is None]
    return best, report | ({"note": f"finetune_lr {', '.join(failed)} diverged"} if failed else {})


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


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)

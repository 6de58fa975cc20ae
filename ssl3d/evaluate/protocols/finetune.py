"""Fine-tuning: a copy of the encoder with a linear head, trained end to end on the labelled training volumes.

Learning rate and number of epochs are selected on a held-out part of the training cases, stratified and grouped by
patient, with one trial per rate. Then a fresh copy is trained on all training cases for that many epochs, along the
same learning-rate curve, and is applied to the test volumes once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import model_validator

from ssl3d.data.augment import Augment
from ssl3d.evaluate.checks import check_targets
from ssl3d.evaluate.protocols.edge import edge_note
from ssl3d.evaluate.protocols.inner import NOTHING_HELD_OUT, criterion, criterion_score, minus_loss, splits
from ssl3d.evaluate.protocols.objective import Balance
from ssl3d.evaluate.protocols.training import DivergedError, Setup, new_model, predict, train_epochs
from ssl3d.evaluate.threshold import best_threshold
from ssl3d.protocol import (
    Card,
    Config,
    EncoderProblem,
    EncoderProtocol,
    Field,
    Kind,
    OneOrMore,
    Prediction,
)
from ssl3d.recipe import AugmentRecipe


class FinetuneConfig(Config):
    """Settings of fine-tuning."""

    epochs: int = Field(30, ge=1, description="most epochs of fine-tuning")
    lr: OneOrMore = Field(
        (2e-4, 1e-3), min_length=1, description="learning rate, or several to choose from (AdamW, cosine)"
    )
    batch_size: int = Field(16, ge=2, description="volumes behind one optimiser step")
    balance: Balance = Field(
        "weights",
        description="rare classes (or labels) weigh more in the loss, or they are drawn more often, or neither; "
        "probabilities are corrected for it",
    )
    crops: int = Field(4, ge=1, description="views of a test volume whose predictions are averaged")

    @model_validator(mode="after")
    def _once(self) -> Self:
        for rate in self.lr:
            if self.lr.count(rate) > 1:
                raise ValueError(f"lr names {rate!r} twice; leave one out")
        return self


class Finetune(EncoderProtocol[FinetuneConfig]):
    """Trains a copy of the encoder with a linear head, by AdamW with a cosine learning rate.

    The loss is cross entropy, or for regression the squared error of standardised values.

    Predictions of test and held-out volumes are means over ``crops`` views (see
    :mod:`ssl3d.evaluate.protocols.crops`). The given encoder and the global random state are not changed.
    """

    card: ClassVar[Card] = Card(
        "Fine-tuning",
        "the encoder with a linear head, trained end to end; learning rate and epochs chosen on held-out cases",
    )
    kinds: ClassVar[frozenset[Kind]] = frozenset({"binary", "multiclass", "multilabel", "ordinal", "regression"})

    def predict(self, problem: EncoderProblem) -> Prediction:
        """Train on the training volumes, predict the test volumes; see :meth:`EncoderProtocol.predict`."""
        check_targets(problem.train_y, problem.task)
        setup = Setup(problem, self.config, Augment(light(problem.augment), problem.view_size))
        trials = _trials(setup)
        best, chosen = _choose(trials, self.config, problem)
        with _seeded(problem.seed, problem.device):  # seeded again, so that the trials' draws have no effect
            everything, done = np.arange(len(problem.train)), len(trials) * self.config.epochs
            model = new_model(setup, everything)
            for epoch in train_epochs(setup, model, everything, best.lr, best.epochs):
                _report(problem, done + epoch, done + best.epochs)
            edge = edge_note("learning rate", best.lr, self.config.lr, "protocol.finetune.lr") if trials else ()
            return Prediction(predict(setup, model, problem.test), best.threshold, chosen, notes=edge)


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
class Trial:
    """The result of one learning rate on the held-out cases.

    Attributes:
        lr: the learning rate.
        epochs: number of epochs with the best score.
        score: selection criterion, then minus the loss: few cases are held out, so AUCs often tie.
        threshold: chosen on the held-out cases; None if the task is not binary.
        held_out: number of cases.
        failure: why there is no score.
    """

    lr: float
    epochs: int
    score: tuple[float, float] = (-np.inf, -np.inf)
    threshold: float | None = None
    held_out: int = 0
    failure: DivergedError | None = None


def _trials(setup: Setup) -> list[Trial]:
    """Return one trial per learning rate, all on the same held-out cases; none if nothing can be held out."""
    problem, rates, total = setup.problem, setup.config.lr, setup.config.epochs
    parts = splits(problem.train_y, problem.patients, problem.task, problem.folds, problem.seed)
    if not parts:
        return []
    fit, held = parts[0]
    found = []
    for number, lr in enumerate(rates):
        best = Trial(lr, 0)
        try:
            with _seeded(problem.seed, problem.device):  # the same draws for every rate
                for trial in _trial(setup, fit, held, lr):
                    best = max(best, trial, key=lambda one: one.score)
                    _report(problem, number * total + trial.epochs, (len(rates) + 1) * total)
        except DivergedError as failure:  # another rate may work; raised if none does
            best = Trial(lr, 0, failure=failure)
        found.append(best)
    return found


def _trial(setup: Setup, fit: np.ndarray, held: np.ndarray, lr: float) -> Iterator[Trial]:
    """Train on some cases, and yield the result on the held-out cases after every epoch."""
    problem, task = setup.problem, setup.problem.task
    y, volumes = problem.train_y[held], [problem.train[i] for i in held]
    model = new_model(setup, fit)
    for epoch in train_epochs(setup, model, fit, lr, setup.config.epochs):
        p = predict(setup, model, volumes)  # (n, K)
        threshold = best_threshold(y, p[:, 1]) if task.kind == "binary" else None
        yield Trial(lr, epoch, (criterion_score(y, p, task), minus_loss(y, p, task)), threshold, len(held))


def _choose(trials: Sequence[Trial], config: FinetuneConfig, problem: EncoderProblem) -> tuple[Trial, dict[str, Any]]:
    """Return the best trial (the first, if tied) and a report.

    Without any, the threshold is the prevalence, where balanced accuracy is highest if the probabilities are true.
    """
    task = problem.task
    if not trials:
        prevalence = float(problem.train_y.mean()) if task.kind == "binary" else None
        best = Trial(config.lr[0], config.epochs, threshold=prevalence)
        return best, {"lr": best.lr, "epochs": best.epochs, "note": NOTHING_HELD_OUT}
    sound = [trial for trial in trials if trial.failure is None]
    if not sound and trials[0].failure is not None:
        raise trials[0].failure
    best = max(sound, key=lambda trial: trial.score)
    rates = {str(trial.lr): None if trial.failure else trial.score[0] for trial in trials}
    report: dict[str, Any] = {"lr": best.lr, "epochs": best.epochs, "of": config.epochs, "criterion": criterion(task)}
    report |= {"score": best.score[0], "held_out": best.held_out, "rates": rates}
    failed = [rate for rate, score in rates.items() if score is None]
    return best, report | ({"note": f"lr {', '.join(failed)} diverged"} if failed else {})


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the draws of layers (dropout), and restore the global generators afterwards."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def _report(problem: EncoderProblem, done: int, total: int) -> None:
    if problem.progress is not None:
        problem.progress(done, total)

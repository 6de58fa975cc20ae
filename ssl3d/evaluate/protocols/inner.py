"""Inner cross-validation: selection of settings on training cases alone, with patients kept together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from ssl3d.evaluate.threshold import best_threshold
from ssl3d.protocol import FeatureProblem
from ssl3d.task import Task

# (fit indices, held-out indices) -> predictions (G, held, K), one layer for each of the G settings of the grid
FitPredict = Callable[[np.ndarray, np.ndarray], np.ndarray]
Split = tuple[np.ndarray, np.ndarray]  # (fit indices, held-out indices)
NOTHING_HELD_OUT = (
    "nothing could be held out to choose by: a class has cases of one patient only, or cannot be split between patients"
)


@dataclass(frozen=True)
class Choice:
    """The outcome of an inner cross-validation.

    Attributes:
        index: index of the selected setting in the grid.
        threshold: selected on the out-of-fold probabilities of that setting; None if the task is not binary.
        report: folds, criterion and score, for the record.
        out_of_fold: (N, K) predictions with that setting, each by a fit that had not seen the case's patient; None if
            no cross-validation is possible.
    """

    index: int
    threshold: float | None
    report: dict[str, Any] = field(default_factory=dict)
    out_of_fold: np.ndarray | None = None

    @property
    def chose(self) -> bool:
        """Whether there was a choice: a cross-validation was possible."""
        return self.out_of_fold is not None


def choose(fit_predict: FitPredict, problem: FeatureProblem, *, default: int) -> Choice:
    """Choose a setting of a grid by cross-validation, by the mean of :func:`criterion_score` over the folds.

    The first of equally good settings wins, so a grid should start with the most regularised.

    Args:
        fit_predict: fits on some cases and predicts others, for all settings of the grid at once.
        problem: training targets, patients, folds and seed; its features are not read.
        default: index used if no cross-validation is possible.
    """
    y, task, binary = problem.train_y, problem.task, problem.task.kind == "binary"
    parts = splits(y, problem.patients, task, problem.folds, problem.seed)
    if not parts:
        return Choice(default, 0.5 if binary else None, {"folds": 0, "note": NOTHING_HELD_OUT})
    held = [fit_predict(fit, out) for fit, out in parts]  # each (G, n, K)
    scores = np.mean(
        [[criterion_score(y[out], p, task) for p in grid] for (_, out), grid in zip(parts, held, strict=True)], axis=0
    )  # (G,)
    index = int(np.argmax(scores))
    report: dict[str, Any] = {"folds": len(parts), "criterion": criterion(task), "score": float(scores[index])}
    if len(parts) < problem.folds:
        report["note"] = (
            f"{len(parts)} folds instead of {problem.folds}: the training cases allow no more, with patients kept "
            "together and every class in every part"
        )
    pooled = np.empty((len(y), held[0].shape[2]))
    for (_, out), predictions in zip(parts, held, strict=True):
        pooled[out] = predictions[index]
    return Choice(index, best_threshold(y, pooled[:, 1]) if binary else None, report, pooled)


def splits(y: np.ndarray, patients: np.ndarray, task: Task, folds: int, seed: int) -> list[Split]:
    """Return (fit, held-out) indices of cross-validation, with no patient on both sides of a split.

    For tasks with classes, folds are stratified, and each side of each split has every class; there are fewer than
    ``folds`` splits if there are too few cases.

    Args:
        y: (N,) class indices or values; (N, L) of 0 and 1. The labels of a multi-label task are not stratified.
        patients: (N,) patient of each case.
        task: task of the targets.
        folds: requested number of folds.
        seed: seed of the splits.

    Returns:
        splits that hold out every case once; empty if nothing can be held out.
    """
    _, units = np.unique(patients, return_inverse=True)  # (N,)
    single = int(units.max()) + 1 == len(y)  # every case has its own patient
    rows = np.zeros(len(y))
    if not task.categorical:
        most = min(folds, int(units.max()) + 1)
        if most < 2:
            return []
        kind = KFold if single else GroupKFold
        return list(kind(most, shuffle=True, random_state=seed).split(rows, groups=None if single else units))
    most = min(folds, *(len(np.unique(units[y == label])) for label in np.unique(y)))
    if single:
        return [] if most < 2 else list(StratifiedKFold(most, shuffle=True, random_state=seed).split(rows, y))
    for count in range(most, 1, -1):
        # Greedy assignment of patients may leave a class out of a fold; fewer folds hold more patients each.
        parts = list(StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(rows, y, units))
        if all(len(np.unique(y[side])) == len(np.unique(y)) for part in parts for side in part):
            return parts
    return []


def criterion(task: Task) -> str:
    """Return the name of the selection criterion."""
    names = {"binary": "auc", "multilabel": "mean auc", "regression": "negative squared error"}
    return names.get(task.kind, "negative log loss")


def criterion_score(y: np.ndarray, prediction: np.ndarray, task: Task) -> float:
    """Return the selection criterion, larger is better: AUC, or minus the log loss or mean squared error.

    Args:
        y: (n,) class indices (for a binary task, both present) or values; (n, L) of 0 and 1.
        prediction: (n, K) probabilities, or (n, 1) values.
        task: task of the targets. The AUC of a multi-label task is the mean over the labels that some but not all cases
            have; 0.5 if there is none.
    """
    if task.kind == "binary":
        return float(roc_auc_score(y, prediction[:, 1]))
    if task.kind == "multilabel":
        columns = zip(y.T, prediction.T, strict=True)
        aucs = [roc_auc_score(one, p) for one, p in columns if one.min() < one.max()]
        return float(np.mean(aucs)) if aucs else 0.5
    return minus_loss(y, prediction, task)


def minus_loss(y: np.ndarray, prediction: np.ndarray, task: Task) -> float:
    """Return minus the log loss of probabilities (n, K), or minus the mean squared error of values (n, 1)."""
    if task.kind == "regression":
        return -float(np.mean((prediction[:, 0] - y) ** 2))
    if task.kind == "multilabel":
        p = np.clip(prediction, 1e-12, 1 - 1e-12)
        return float(np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))
    return -float(log_loss(y, prediction, labels=np.arange(prediction.shape[1])))

"""Inner cross-validation: what a protocol chooses, it chooses here, from training data alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold

from ssl3d.protocol import best_threshold

# (fit indices, held-out indices) -> probabilities (G, held, K), one row of G a setting of the grid
FitPredict = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Choice:
    """The outcome of an inner cross-validation.

    Attributes:
        index: of the chosen setting in the grid.
        threshold: chosen on the out-of-fold probabilities of that setting; None if there are more than two classes.
        report: folds, criterion and score, for the record.
        out_of_fold: (N, K) probabilities of that setting for every case, from the fit that had not seen it; None where
            no cross-validation is possible.
    """

    index: int
    threshold: float | None
    report: dict[str, Any] = field(default_factory=dict)
    out_of_fold: np.ndarray | None = None


def splits(labels: np.ndarray, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return stratified (fit, held-out) indices; fewer than ``folds`` where the smallest class is smaller.

    Empty if a class has one case only: nothing can be held out then.
    """
    folds = min(folds, int(np.unique(labels, return_counts=True)[1].min()))
    if folds < 2:
        return []
    return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels))


def choose(fit_predict: FitPredict, labels: np.ndarray, *, classes: int, folds: int, seed: int, default: int) -> Choice:
    """Choose a setting of a grid by stratified cross-validation: by AUC for two classes, by log loss for more.

    Of equally good settings the first wins, so a grid goes from the most to the least regular.

    Args:
        fit_predict: fits on some cases and predicts others, for every setting of the grid at once.
        labels: (N,) in 0..K-1.
        classes: K.
        folds: as many as there should be; clamped to the size of the smallest class, which the report says.
        seed: of the split.
        default: index taken where no cross-validation is possible (a class of one case).
    """
    parts = splits(labels, folds, seed)
    if not parts:
        reason = "a class has one training case only: nothing could be held out to choose by"
        return Choice(default, 0.5 if classes == 2 else None, {"folds": 0, "note": reason})
    held = [fit_predict(fit, out) for fit, out in parts]  # each (G, n, K)
    scores = np.array([_scores(labels[out], p) for (_, out), p in zip(parts, held, strict=True)]).mean(axis=0)
    index = int(np.argmax(scores))
    report: dict[str, Any] = {"folds": len(parts), "criterion": criterion(classes), "score": float(scores[index])}
    if len(parts) < folds:
        report["note"] = f"{len(parts)} folds instead of {folds}: the smallest class has {len(parts)} training cases"
    pooled = np.empty((len(labels), classes))
    for (_, out), probabilities in zip(parts, held, strict=True):
        pooled[out] = probabilities[index]
    threshold = best_threshold(labels, pooled[:, 1]) if classes == 2 else None
    return Choice(index, threshold, report, pooled)


def criterion(classes: int) -> str:
    """Return the name of what settings are chosen by."""
    return "auc" if classes == 2 else "negative log loss"


def criterion_score(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the figure that settings are chosen by, larger is better: AUC for two classes, else minus log loss."""
    if probabilities.shape[1] == 2 and len(np.unique(labels)) == 2:
        return float(roc_auc_score(labels, probabilities[:, 1]))
    return negative_log_loss(labels, probabilities)


def negative_log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return minus the log loss of probabilities (N, K)."""
    return -float(log_loss(labels, probabilities, labels=np.arange(probabilities.shape[1])))


def _scores(labels: np.ndarray, probabilities: np.ndarray) -> list[float]:
    return [criterion_score(labels, p) for p in probabilities]  # (G,)

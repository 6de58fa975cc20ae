"""Scores of a prediction on the test cases. What is undefined is None and comes with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from sklearn import metrics as sk

from ssl3d.errors import DataError

BINS = 10  # of the expected calibration error


@dataclass
class Scores:
    """Metrics by name, and why some are None.

    Two classes: auc, average_precision, balanced_accuracy, accuracy, sensitivity, specificity, f1, mcc, brier, ece.
    More: auc (macro, one class against the rest), balanced_accuracy, accuracy, f1 (macro), mcc, log_loss, brier, ece.
    """

    metrics: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def undefined(self, reason: str, *names: str) -> None:
        """Set metrics to None, for a reason."""
        for name in names:
            self.metrics[name], self.reasons[name] = None, reason


def score(labels: np.ndarray, probabilities: np.ndarray, threshold: float | None) -> Scores:
    """Return the metrics of probabilities (N, K) on labels (N,).

    Args:
        labels: integers in 0..K-1.
        probabilities: rows sum to 1. Logits are refused: a threshold means nothing on them.
        threshold: of the probability of class 1, chosen on training data: positive at or above it. Needed if K = 2.

    Raises:
        DataError: no test case, labels outside 0..K-1, or rows that are not probabilities.
    """
    _check(labels, probabilities)
    if probabilities.shape[1] > 2:
        return _multiclass(labels, probabilities)
    if threshold is None:
        raise ValueError("two classes need a threshold, chosen on training data")
    return _binary(labels, probabilities[:, 1], threshold)


def _check(labels: np.ndarray, probabilities: np.ndarray) -> None:
    if len(labels) == 0:
        raise DataError("no labelled test case to score; give the test split labels")
    if probabilities.ndim != 2 or probabilities.shape[1] < 2 or len(probabilities) != len(labels):
        raise DataError(f"probabilities {probabilities.shape} do not fit {len(labels)} labels; expected (N, K), K >= 2")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise DataError(f"test label {labels.max()} does not fit {probabilities.shape[1]} classes")
    inside = (probabilities >= 0).all() and (probabilities <= 1 + 1e-6).all()  # False for NaN, too
    if not inside or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-4):
        raise DataError("these are not probabilities (0 to 1, rows that sum to 1); apply softmax to logits first")


def _binary(labels: np.ndarray, p: np.ndarray, threshold: float) -> Scores:
    predicted = (p >= threshold).astype(int)
    scores = Scores()
    found = scores.metrics
    found["accuracy"] = float(sk.accuracy_score(labels, predicted))
    found["brier"] = float(np.mean((p - labels) ** 2))
    found["ece"] = calibration_error(labels, p)
    if len(np.unique(labels)) == 2:
        found["auc"] = float(sk.roc_auc_score(labels, p))
        found["average_precision"] = float(sk.average_precision_score(labels, p))
        found["balanced_accuracy"] = float(sk.balanced_accuracy_score(labels, predicted))
        found["sensitivity"] = float(predicted[labels == 1].mean())
        found["specificity"] = float(1 - predicted[labels == 0].mean())
        found["f1"] = float(sk.f1_score(labels, predicted, zero_division=0.0))
        found["mcc"] = float(sk.matthews_corrcoef(labels, predicted))
        return scores
    only = int(labels[0])
    reason = f"all {len(labels)} test cases are of class {only}"
    scores.undefined(reason, "auc", "average_precision", "balanced_accuracy", "f1", "mcc")
    known, unknown = ("sensitivity", "specificity") if only == 1 else ("specificity", "sensitivity")
    found[known] = found["accuracy"]
    scores.undefined(reason, unknown)
    return scores


def _multiclass(labels: np.ndarray, p: np.ndarray) -> Scores:
    K = p.shape[1]
    predicted = p.argmax(axis=1)
    scores = Scores()
    found = scores.metrics
    found["accuracy"] = float(sk.accuracy_score(labels, predicted))
    found["log_loss"] = float(sk.log_loss(labels, p, labels=np.arange(K)))
    found["brier"] = float(np.mean(np.sum((p - np.eye(K)[labels]) ** 2, axis=1)))
    found["ece"] = calibration_error((predicted == labels).astype(int), p.max(axis=1))
    missing = sorted(set(range(K)) - {int(label) for label in labels})
    if missing:
        reason = f"no test case is of class {', '.join(map(str, missing))}"
        scores.undefined(reason, "auc", "balanced_accuracy", "f1", "mcc")
        return scores
    found["auc"] = macro_auc(labels, p)
    found["balanced_accuracy"] = float(sk.balanced_accuracy_score(labels, predicted))
    found["f1"] = float(sk.f1_score(labels, predicted, average="macro", zero_division=0.0))
    found["mcc"] = float(sk.matthews_corrcoef(labels, predicted))
    return scores


def macro_auc(labels: np.ndarray, p: np.ndarray) -> float:
    """Return the mean over classes of the AUC of one class against the rest (all K classes present)."""
    return float(np.mean([sk.roc_auc_score(labels == k, p[:, k]) for k in range(p.shape[1])]))


def calibration_error(labels: np.ndarray, p: np.ndarray) -> float:
    """Return the expected calibration error over ten equal bins of [0, 1] (Guo et al. 2017, arXiv 1706.04599, eq. 3).

    Args:
        labels: (N,) whether the predicted event happened.
        p: (N,) probability that it would.
    """
    which = np.minimum((p * BINS).astype(int), BINS - 1)
    gap = np.bincount(which, weights=p - labels, minlength=BINS)  # n_b (confidence_b - accuracy_b)
    return float(np.abs(gap).sum() / len(p))

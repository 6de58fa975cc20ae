"""Metrics of a prediction on the test cases. An undefined metric is None, with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import spearmanr
from sklearn import metrics as sk

from ssl3d.errors import DataError
from ssl3d.evaluate.statistics.influence import expected_values
from ssl3d.task import Task

BINS = 10  # of the expected calibration error
BINARY = (
    *("auc", "average_precision", "balanced_accuracy", "accuracy", "sensitivity", "specificity"),
    *("f1", "mcc", "brier", "ece"),
)
# auc (one class against the rest) and f1 are means over classes.
MULTICLASS = ("auc", "balanced_accuracy", "accuracy", "f1", "mcc", "log_loss", "brier", "ece")
ORDINAL = (*MULTICLASS, "quadratic_kappa", "spearman")
MULTILABEL = ("auc", "average_precision", "brier")  # and the first two also per label: "auc:edema"
REGRESSION = ("mae", "r2", "spearman")


@dataclass
class Metrics:
    """Metrics by name, in the order of the tuples above, and why some are None."""

    values: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def undefined(self, reason: str, *names: str) -> None:
        """Set metrics to None, for a reason."""
        for name in names:
            self.values[name], self.reasons[name] = None, reason


def measure(targets: np.ndarray, probabilities: np.ndarray, task: Task, threshold: float | None = None) -> Metrics:
    """Return the metrics of a prediction.

    Args:
        targets: (N,) class indices or regression values; (N, L) of 0 and 1 for a multi-label task.
        probabilities: (N, K), rows sum to 1; (N, L), independent; (N, 1) regression values. Logits are refused, since a
            threshold means nothing on them.
        task: predicted task.
        threshold: probability of class 1 from which a case is positive, chosen on training data; required for a binary
            task.

    Raises:
        DataError: there are no test cases, targets are not valid for the task, or a prediction does not fit.
    """
    _check(targets, probabilities, task)
    if task.kind == "regression":
        return _regression(targets.astype(np.float64), probabilities[:, 0])
    if task.kind == "multilabel":
        return _multilabel(targets, probabilities, task.classes)
    if task.kind != "binary":
        return _multiclass(targets, probabilities, ordinal=task.kind == "ordinal")
    if threshold is None:
        raise ValueError("a binary task needs a threshold, chosen on training data")
    return _binary(targets, probabilities[:, 1], threshold)


def _check(targets: np.ndarray, probabilities: np.ndarray, task: Task) -> None:
    N, outputs = len(targets), task.outputs
    if N == 0:
        raise DataError(f"no test case has a target for {task.name!r} to score; give cases of the test split one")
    if probabilities.shape != (N, outputs) or targets.shape != ((N, outputs) if task.kind == "multilabel" else (N,)):
        raise DataError(
            f"predictions {probabilities.shape} do not fit the targets {targets.shape} of {task.name!r}; expected "
            f"predictions ({N}, {outputs})"
        )
    if task.kind == "regression":
        if not (np.isfinite(probabilities).all() and np.isfinite(targets).all()):
            raise DataError(f"values or predictions of {task.name!r} are not finite")
        return
    K = 2 if task.kind == "multilabel" else outputs
    if targets.min() < 0 or targets.max() >= K:
        raise DataError(f"test target {targets.max()} does not fit {task.name!r}, whose classes are 0..{K - 1}")
    sound = (probabilities >= 0).all() and (probabilities <= 1 + 1e-6).all()  # also False for NaN
    if not sound or (task.categorical and not np.allclose(probabilities.sum(axis=1), 1, atol=1e-4)):
        raise DataError("these are not probabilities (0 to 1, rows that sum to 1); apply softmax to logits first")


def _binary(labels: np.ndarray, p: np.ndarray, threshold: float) -> Metrics:
    predicted = (p >= threshold).astype(int)
    found = Metrics(dict.fromkeys(BINARY))
    values = found.values
    values["accuracy"] = float(sk.accuracy_score(labels, predicted))
    values["brier"] = float(np.mean((p - labels) ** 2))
    values["ece"] = calibration_error(labels, p)
    if len(np.unique(labels)) == 2:
        values["auc"] = float(sk.roc_auc_score(labels, p))
        values["average_precision"] = float(sk.average_precision_score(labels, p))
        values["balanced_accuracy"] = float(sk.balanced_accuracy_score(labels, predicted))
        values["sensitivity"] = float(predicted[labels == 1].mean())
        values["specificity"] = float(1 - predicted[labels == 0].mean())
        values["f1"] = float(sk.f1_score(labels, predicted, zero_division=0.0))
        values["mcc"] = float(sk.matthews_corrcoef(labels, predicted))
        return found
    only = int(labels[0])
    reason = f"all {len(labels)} test cases are of class {only}"
    found.undefined(reason, "auc", "average_precision", "balanced_accuracy", "f1", "mcc")
    known, unknown = ("sensitivity", "specificity") if only == 1 else ("specificity", "sensitivity")
    values[known] = values["accuracy"]
    found.undefined(reason, unknown)
    return found


def _multiclass(labels: np.ndarray, p: np.ndarray, *, ordinal: bool) -> Metrics:
    K = p.shape[1]
    predicted = p.argmax(axis=1)
    found = Metrics(dict.fromkeys(ORDINAL if ordinal else MULTICLASS))
    values = found.values
    values["accuracy"] = float(sk.accuracy_score(labels, predicted))
    values["log_loss"] = float(sk.log_loss(labels, p, labels=np.arange(K)))
    values["brier"] = float(np.mean(np.sum((p - np.eye(K)[labels]) ** 2, axis=1)))
    values["ece"] = calibration_error((predicted == labels).astype(int), p.max(axis=1))
    missing = sorted(set(range(K)) - {int(label) for label in labels})
    if missing:
        reason = f"no test case is of class {', '.join(map(str, missing))}"
        found.undefined(reason, "auc", "balanced_accuracy", "f1", "mcc")
        if ordinal:
            _ordered(found, labels, p)
        return found
    values["auc"] = macro_auc(labels, p)
    values["balanced_accuracy"] = float(sk.balanced_accuracy_score(labels, predicted))
    values["f1"] = float(sk.f1_score(labels, predicted, average="macro", zero_division=0.0))
    values["mcc"] = float(sk.matthews_corrcoef(labels, predicted))
    if ordinal:
        _ordered(found, labels, p)
    return found


def _multilabel(labels: np.ndarray, p: np.ndarray, names: Sequence[str]) -> Metrics:
    found = Metrics(dict.fromkeys(MULTILABEL))
    for name, y, scores in zip(names, labels.T, p.T, strict=True):
        if len(np.unique(y)) == 2:
            found.values[f"auc:{name}"] = float(sk.roc_auc_score(y, scores))
            found.values[f"average_precision:{name}"] = float(sk.average_precision_score(y, scores))
        else:
            reason = f"all {len(y)} test cases have {name!r} = {int(y[0])}"
            found.undefined(reason, f"auc:{name}", f"average_precision:{name}")
    for metric in ("auc", "average_precision"):
        known = [value for name in names if (value := found.values[f"{metric}:{name}"]) is not None]
        if known:
            found.values[metric] = float(np.mean(known))
        else:
            found.undefined("no label has test cases with and without it", metric)
    found.values["brier"] = float(np.mean((p - labels) ** 2))
    return found


def _regression(y: np.ndarray, predicted: np.ndarray) -> Metrics:
    found = Metrics(dict.fromkeys(REGRESSION))
    found.values["mae"] = float(np.mean(np.abs(predicted - y)))
    if np.ptp(y) == 0:
        found.undefined(f"all {len(y)} test cases have the same value", "r2", "spearman")
        return found
    found.values["r2"] = float(sk.r2_score(y, predicted))
    _spearman(found, y, predicted)
    return found


def _ordered(found: Metrics, labels: np.ndarray, p: np.ndarray) -> None:
    """Add the metrics of ordered classes, which some classes may be missing for."""
    predicted = p.argmax(axis=1)
    if np.ptp(labels) == 0:
        found.undefined(f"all {len(labels)} test cases are of class {labels[0]}", "quadratic_kappa", "spearman")
        return
    found.values["quadratic_kappa"] = float(sk.cohen_kappa_score(labels, predicted, weights="quadratic"))
    _spearman(found, labels, expected_values(p))


def _spearman(found: Metrics, y: np.ndarray, predicted: np.ndarray) -> None:
    if np.ptp(predicted) == 0:
        found.undefined("all test cases are predicted to have the same value", "spearman")
    else:
        found.values["spearman"] = float(spearmanr(y, predicted).statistic)


def macro_auc(labels: np.ndarray, p: np.ndarray) -> float:
    """Return the mean over classes of the AUC of one class against the rest.

    Args:
        labels: (N,) class indices, all K classes present.
        p: (N, K) probabilities.
    """
    return float(np.mean([sk.roc_auc_score(labels == k, p[:, k]) for k in range(p.shape[1])]))


def calibration_error(labels: np.ndarray, p: np.ndarray) -> float:
    """Return the expected calibration error over ten equal bins of [0, 1] (Guo et al. 2017, arXiv 1706.04599, eq. 3).

    Args:
        labels: (N,) whether the predicted event happened.
        p: (N,) predicted probability of the event.
    """
    which = np.minimum((p * BINS).astype(int), BINS - 1)
    gap = np.bincount(which, weights=p - labels, minlength=BINS)  # n_b (confidence_b - accuracy_b)
    return float(np.abs(gap).sum() / len(p))

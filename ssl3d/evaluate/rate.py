"""The score that learning rates are chosen by, on training cases alone, and the rule of the choice. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ssl3d.evaluate.metrics import macro_auc
from ssl3d.evaluate.protocols.inner import criterion_score, splits
from ssl3d.evaluate.protocols.linear import Linear
from ssl3d.evaluate.readout import predict_best
from ssl3d.protocol import FeatureProblem
from ssl3d.task import Task


def probe_score(problems: Mapping[str, FeatureProblem], readouts: Sequence[str]) -> float | None:
    """Return the score of a linear probe on inner folds of the training cases: 1 is best for every kind of task.

    Penalty and read-out are chosen on the same folds, as in an evaluation; this favours no learning rate.

    Args:
        problems: the training cases by read-out; their test cases are not used.
        readouts: read-outs to choose from.

    Returns:
        The mean over the folds of the AUC (macro for several classes, mean over labels), or of the share of the
        variance explained for a regression; None if nothing can be held out.
    """
    # A probe predicts something: the training cases again.
    inner = {name: replace(problem, test_x=problem.train_x) for name, problem in problems.items()}
    name, prediction = predict_best(Linear(), inner, readouts)
    problem, predicted = inner[name], prediction.out_of_fold
    parts = splits(problem.train_y, problem.patients, problem.task, problem.folds, problem.seed)
    if predicted is None or not parts:
        return None
    y, task = problem.train_y, problem.task
    return float(np.mean([_score(y[held], predicted[held], task, float(np.var(y))) for _, held in parts]))


def best_factor(scores: Mapping[float, float | None]) -> float:
    """Return the factor with the highest score; of equal ones, or if none has a score, the one nearest to 1.

    Args:
        scores: by factor, of the trainings that did not diverge; None if nothing could be held out.
    """
    known = {factor: score for factor, score in scores.items() if score is not None}
    return max(known or scores, key=lambda factor: (known.get(factor, 0.0), -abs(math.log(factor)), -factor))


def mean_score(scores: Sequence[float | None]) -> float | None:
    """Return the mean of the known scores; None if there are none."""
    known = [score for score in scores if score is not None]
    return float(np.mean(known)) if known else None


def _score(y: np.ndarray, predicted: np.ndarray, task: Task, variance: float) -> float:
    """Return the score of one fold: cases y (n,) or (n, L), predictions (n, K)."""
    if task.kind == "regression":
        return 1 + criterion_score(y, predicted, task) / variance if variance else 0.0
    if task.categorical and task.kind != "binary":
        present, classes = np.unique(y, return_inverse=True)
        return macro_auc(classes, predicted[:, present])
    return criterion_score(y, predicted, task)

"""Scoring of a protocol's prediction for its record. Loads scikit-learn, not torch."""

from __future__ import annotations

import numpy as np

from ssl3d.evaluate.metrics import measure
from ssl3d.evaluate.statistics.inference import interval
from ssl3d.evaluate.statistics.measures import Measure, primary
from ssl3d.protocol import Prediction
from ssl3d.results.model import Score
from ssl3d.task import Task


def score(
    prediction: Prediction,
    targets: np.ndarray,
    task: Task,
    patients: np.ndarray | None = None,
    seconds: float | None = None,
) -> Score:
    """Score a prediction of the test cases, once.

    Args:
        prediction: prediction of a protocol.
        targets: (N_test,) class indices or regression values; (N_test, L) of 0 and 1 for a multi-label task.
        task: predicted task.
        patients: (N_test,) patient of each test case; None: each case has its own patient.
        seconds: time taken by the protocol.

    Raises:
        DataError: there are no test cases, targets are not valid for the task, or a prediction does not fit.
    """
    found, ranks = measure(targets, prediction.probabilities, task, prediction.threshold), primary(task.kind)
    known = task.kind != "multilabel" and found.values[ranks.name] is not None
    return Score(
        metrics=found.values,
        reasons=dict(found.reasons),
        metric=ranks.name,
        interval=_limits(ranks, targets, prediction.probabilities, patients) if known else None,
        threshold=prediction.threshold,
        chosen=prediction.chosen,
        seconds=seconds,
    )


def _limits(
    ranks: Measure, targets: np.ndarray, probabilities: np.ndarray, patients: np.ndarray | None
) -> tuple[float, float] | None:
    """Return the limits of the score; None if one is infinite: a single patient says nothing about an error."""
    found = interval(ranks.estimate(targets, probabilities[None], patients))
    return (found.low, found.high) if np.isfinite([found.low, found.high]).all() else None

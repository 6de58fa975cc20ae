"""Scoring of a protocol's prediction for its record. Loads scikit-learn, not torch."""

from __future__ import annotations

import numpy as np

from ssl3d.evaluate.metrics import measure
from ssl3d.evaluate.statistics.estimate import estimate
from ssl3d.evaluate.statistics.inference import interval
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
    found = measure(targets, prediction.probabilities, task, prediction.threshold)
    auc_interval = None
    if task.kind == "binary" and found.values["auc"] is not None:
        limits = interval(estimate(targets, prediction.probabilities[None], patients))
        auc_interval = limits.low, limits.high
    return Score(
        metrics=found.values,
        reasons=dict(found.reasons),
        auc_interval=auc_interval,
        threshold=prediction.threshold,
        chosen=prediction.chosen,
        seconds=seconds,
    )

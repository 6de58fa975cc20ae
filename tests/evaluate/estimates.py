"""Estimates from scores of two classes. No test is in here."""

from __future__ import annotations

import numpy as np

from ssl3d.evaluate.statistics.auc import estimate_auc
from ssl3d.evaluate.statistics.estimate import Estimate
from ssl3d.evaluate.statistics.inference import interval, paired
from ssl3d.evaluate.statistics.limits import Interval, PairedTest


def of_scores(labels: np.ndarray, scores: np.ndarray, patients: np.ndarray | None = None) -> Estimate:
    """Return the estimate of scores (N,), or (S, N) of several seeds."""
    scores = np.atleast_2d(scores)
    return estimate_auc(labels, np.stack([-scores, scores], axis=2), patients)


def auc_interval(labels: np.ndarray, scores: np.ndarray, patients: np.ndarray | None = None) -> Interval:
    """Return the AUC of scores with its interval."""
    return interval(of_scores(labels, scores, patients))


def paired_test(labels: np.ndarray, a: np.ndarray, b: np.ndarray, patients: np.ndarray | None = None) -> PairedTest:
    """Test that two methods have the same AUC."""
    return paired(of_scores(labels, a, patients), of_scores(labels, b, patients))

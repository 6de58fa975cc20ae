"""From a protocol's prediction to the scores in a result. Loads scikit-learn, not torch."""

from __future__ import annotations

import numpy as np

from ssl3d.evaluate.metrics import score
from ssl3d.evaluate.statistics.delong import auc_interval
from ssl3d.protocol import Prediction
from ssl3d.results.records import ProtocolScore


def protocol_score(prediction: Prediction, labels: np.ndarray, seconds: float | None = None) -> ProtocolScore:
    """Score a prediction on the test labels (N_test,), once.

    Args:
        prediction: of a protocol.
        labels: integers in 0..K-1.
        seconds: what the protocol took.

    Raises:
        DataError: no test case, or labels that do not fit.
    """
    probabilities = prediction.probabilities
    scores = score(labels, probabilities, prediction.threshold)
    interval = None
    if probabilities.shape[1] == 2 and scores.metrics["auc"] is not None:
        found = auc_interval(labels, probabilities[:, 1])
        interval = (found.low, found.high)
    return ProtocolScore(
        metrics=scores.metrics,
        reasons=scores.reasons,
        auc_interval=interval,
        threshold=prediction.threshold,
        chosen=prediction.chosen,
        seconds=seconds,
    )

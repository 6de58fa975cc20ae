"""Scores with an interval and a paired test: the first one of a kind of task ranks methods. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ssl3d.evaluate.statistics.auc import estimate_auc
from ssl3d.evaluate.statistics.estimate import Estimate
from ssl3d.evaluate.statistics.influence import estimate_kappa, estimate_mae, estimate_r2, estimate_spearman
from ssl3d.evaluate.statistics.limits import AUC, CORRELATION, ERROR, EXPLAINED, Scale
from ssl3d.task import Kind


@dataclass(frozen=True)
class Measure:
    """A score with an interval and a paired test.

    Attributes:
        name: its key in the metrics of a record.
        title: its name in tables.
        meaning: what it is.
        scale: its range.
        estimate: the score and its contributions, from targets (N,), probabilities (S, N, K) and patients (N,) or None.
        error: where its error over patients comes from.
        sign: 1 if larger is better, -1 if smaller is.
        chance: score of a prediction that knows nothing; None if it depends on the data.
    """

    name: str
    title: str
    meaning: str
    scale: Scale
    estimate: Callable[[np.ndarray, np.ndarray, np.ndarray | None], Estimate]
    error: str = "influence functions"
    sign: int = 1
    chance: float | None = None


MEASURES: Mapping[str, Measure] = {
    one.name: one
    for one in (
        Measure("auc", "AUC", "area under the ROC curve", AUC, estimate_auc, "DeLong", chance=0.5),
        Measure(
            "quadratic_kappa", "kappa", "Cohen's kappa with quadratic weights", CORRELATION, estimate_kappa, chance=0.0
        ),
        Measure("spearman", "Spearman", "Spearman's rank correlation", CORRELATION, estimate_spearman, chance=0.0),
        Measure("mae", "MAE", "mean absolute error, smaller is better", ERROR, estimate_mae, sign=-1),
        Measure("r2", "R2", "coefficient of determination", EXPLAINED, estimate_r2, chance=0.0),
    )
}
OF_KIND: Mapping[Kind, tuple[str, ...]] = {
    "binary": ("auc",),
    "multiclass": ("auc",),
    "multilabel": ("auc",),
    "ordinal": ("quadratic_kappa", "spearman", "auc"),
    "regression": ("mae", "r2", "spearman"),
}


def primary(kind: Kind) -> Measure:
    """Return the score that ranks methods on a kind of task."""
    return MEASURES[OF_KIND[kind][0]]

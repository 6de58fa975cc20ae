"""Scores: one row per entry and metric with an interval, and per label of a multi-label task. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ssl3d.tables.columns import Columns, ColumnType, typed
from ssl3d.tables.standings import Standing

COLUMNS: Columns = {
    "method": ColumnType("str", "name of the method"),
    "backbone": ColumnType("str", "name of the backbone"),
    "protocol": ColumnType("str", "how encoders were evaluated: linear, knn, attentive, finetune, or another plugin"),
    "metric": ColumnType("str", "auc, quadratic_kappa, spearman, mae or r2"),
    "label": ColumnType("str", "label of a multi-label task; missing: the mean over labels"),
    "primary": ColumnType("boolean", "whether this metric decides ranks and letters"),
    "score": ColumnType("float64", "the metric on the test cases, mean over seeds and folds"),
    "ci_low": ColumnType("float64", "lower 95% limit of score"),
    "ci_high": ColumnType("float64", "upper 95% limit of score"),
    "interval": ColumnType(
        "str", "DeLong (one seed: of this encoder), or DeLong and seeds; influence functions if no AUC"
    ),
    "group": ColumnType("str", "by this metric, methods that share a letter cannot be separated"),
    "spread": ColumnType("float64", "standard deviation of score over seeds"),
    "seeds": ColumnType("Int64", "number of complete seeds"),
    "n_test": ColumnType("Int64", "number of test volumes, of all folds together"),
    "data": ColumnType("str", "data set that it was evaluated on, with its variant"),
    "task": ColumnType("str", "target that is predicted"),
    "plane": ColumnType("str", "plane of the exam"),
    "synthetic": ColumnType("boolean", "whether the data are generated"),
    "settings": ColumnType("str", "hash of everything that decides the numbers, code included, but seed and fold"),
}


def scores(standings: Sequence[Standing]) -> pd.DataFrame:
    """Return one row per standing with a complete seed; see :data:`COLUMNS`."""
    return typed([_row(standing) for standing in standings if standing.entry.done], COLUMNS)


def _row(standing: Standing) -> dict[str, Any]:
    entry, limits = standing.entry, standing.interval
    return {
        **entry.key._asdict(),
        **{"metric": entry.metric, "label": entry.label, "primary": entry.primary, "score": entry.score},
        **({} if limits is None else {"ci_low": limits.low, "ci_high": limits.high}),
        **{"interval": standing.interval_from, "group": standing.group, "seeds": len(entry.seeds)},
        "spread": float(np.std(entry.scores, ddof=1)) if len(entry.scores) > 1 else None,
        **{"n_test": entry.cases, "synthetic": entry.done[0].record.data.synthetic},
    }

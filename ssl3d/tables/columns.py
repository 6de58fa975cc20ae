"""Tables with fixed, typed columns that survive a round trip through CSV. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ssl3d.results.predictions import unguarded


class ColumnType(NamedTuple):
    """Type and meaning of a column. Types are pandas': str, Int64, float64, boolean; all allow missing values."""

    dtype: str
    meaning: str


Columns = Mapping[str, ColumnType]

METRICS = {
    "auc": "area under the ROC curve on the test cases; macro for more than two classes, mean over labels",
    "average_precision": "area under the precision-recall curve",
    "balanced_accuracy": "mean of sensitivity and specificity at the threshold chosen on training data",
    "accuracy": "share of cases classified correctly at that threshold",
    "sensitivity": "share of the positive cases found",
    "specificity": "share of the negative cases recognised",
    "f1": "F1 of the positive class; macro for more than two classes",
    "mcc": "Matthews correlation coefficient",
    "brier": "Brier score, smaller is better",
    "ece": "expected calibration error, smaller is better",
    "log_loss": "log loss, for more than two classes; smaller is better",
    "quadratic_kappa": "Cohen's kappa with quadratic weights, for an ordinal task",
    "mae": "mean absolute error, for a regression; smaller is better",
    "r2": "coefficient of determination, for a regression",
    "spearman": "Spearman's rank correlation, for an ordinal task or a regression",
}


def typed(rows: Sequence[Mapping[str, Any]], columns: Columns) -> pd.DataFrame:
    """Return rows as a table with exactly these columns and types; an empty text counts as missing."""
    series = {
        name: pd.Series([_value(row.get(name)) for row in rows], dtype=column.dtype) for name, column in columns.items()
    }
    return pd.DataFrame(series, columns=list(columns))


def read_table(path: Path, columns: Columns) -> pd.DataFrame:
    """Return a table written by :func:`ssl3d.results.predictions.to_csv`, unchanged."""
    types: dict[str, Any] = {name: column.dtype for name, column in columns.items()}
    return unguarded(pd.read_csv(path, dtype=types, keep_default_na=False, na_values=[""]))


def joined(sentences: Iterable[str | None]) -> str:
    """Join distinct sentences into one text, in order of appearance."""
    return "; ".join(dict.fromkeys(sentence for sentence in sentences if sentence))


def grid(factors: Iterable[float]) -> str:
    """Return the factors of a grid as text: "0.25, 1, 4"."""
    return ", ".join(f"{factor:g}" for factor in factors)


def _value(value: object) -> object:
    return None if value == "" else value

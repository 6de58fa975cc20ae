"""Tables with stable, typed columns that a CSV file gives back unchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd


class Column(NamedTuple):
    """Type and meaning of a column. Types are those of pandas: str, Int64, float64, boolean; all can be missing."""

    dtype: str
    meaning: str


Columns = Mapping[str, Column]


def typed(rows: Sequence[Mapping[str, Any]], columns: Columns) -> pd.DataFrame:
    """Return rows as a table with exactly these columns and types; an empty text counts as missing."""
    series = {
        name: pd.Series([_value(row.get(name)) for row in rows], dtype=column.dtype) for name, column in columns.items()
    }
    return pd.DataFrame(series, columns=list(columns))


def read_table(path: Path, columns: Columns) -> pd.DataFrame:
    """Return a table written with ``to_csv(index=False)``, as it was."""
    types: dict[str, Any] = {name: column.dtype for name, column in columns.items()}
    return pd.read_csv(path, dtype=types, keep_default_na=False, na_values=[""])


def _value(value: object) -> object:
    return None if value == "" else value

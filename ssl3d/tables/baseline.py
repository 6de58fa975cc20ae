"""The leaderboard compared with one baseline named in advance: differences, intervals and corrected tests.

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from ssl3d.errors import RunError, nearest
from ssl3d.evaluate.statistics.compare import holm
from ssl3d.tables.columns import Columns, ColumnType, typed

COLUMNS: Columns = {
    "baseline": ColumnType("str", "method that the row is compared with"),
    "difference": ColumnType("float64", "score minus that of the baseline"),
    "difference_low": ColumnType("float64", "lower 95% limit of the difference, not corrected"),
    "difference_high": ColumnType("float64", "upper 95% limit of the difference"),
    "difference_p": ColumnType("float64", "two-sided p value of no difference"),
    "difference_p_holm": ColumnType(
        "float64", "that p corrected for the comparisons with the baseline in this table and protocol (Holm)"
    ),
}
_COMPARED = ["data", "task", "plane", "protocol"]  # rows with equal values are compared with each other
_NAME = ["method", "backbone", "settings"]
Row = Mapping[str, Any]


def against(board: pd.DataFrame, pairs: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the leaderboard with the columns of :data:`COLUMNS` added.

    Only comparisons with the baseline count in Holm's correction: it was named in advance, so no others were made.

    Args:
        board: the leaderboard.
        pairs: the comparisons of the same results; only those by the metric that decides ranks are used.
        name: METHOD, or METHOD on BACKBONE, followed by (SETTINGS) if needed to distinguish two rows.

    Raises:
        RunError: no row has the name, several rows of one table have it, or it has no score.
    """
    rows = _rows(board)
    chosen = [row for row in rows if name in _names(row)]
    if not chosen:
        known = {known for row in rows for known in _names(row)[:2]}
        raise RunError(f"no row of the leaderboard is called {name!r}{nearest(name, known)}")
    _check_alone(chosen, name)
    if all(row["score"] is None for row in chosen):
        raise RunError(f"baseline {name!r} has no score ({chosen[0]['note'] or chosen[0]['status']}); name another one")
    found: list[dict[str, Any]] = [{} for _ in rows]
    for baseline in chosen:
        _compare(rows, found, _rows(pairs[pairs["primary"]]), baseline)
    extra = typed([{**one, "baseline": name} for one in found], COLUMNS)
    return pd.concat([board.reset_index(drop=True), extra], axis=1)


def _compare(rows: list[Row], found: list[dict[str, Any]], pairs: list[Row], baseline: Row) -> None:
    """Fill in the comparisons with one baseline."""
    tested: dict[tuple[Any, ...], dict[str, Any]] = {}
    for pair in pairs:
        if _compared(pair) == _compared(baseline):
            tested.update(_against(pair, tuple(baseline[part] for part in _NAME)))
    corrected = holm([values["difference_p"] for values in tested.values()])
    for values, p in zip(tested.values(), corrected, strict=True):
        values["difference_p_holm"] = float(p)
    for row, values in zip(rows, found, strict=True):
        if _compared(row) == _compared(baseline):
            values.update(tested.get(tuple(row[part] for part in _NAME), {}))


def _against(pair: Row, baseline: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Yield the other side of each pair with the baseline, and its difference from the baseline."""
    for side, other, sign in (("b", "a", 1), ("a", "b", -1)):
        if tuple(pair[f"{part}_{side}"] for part in _NAME) == baseline:
            low, high = sorted((sign * pair["ci_low"], sign * pair["ci_high"]))
            values = {"difference": sign * pair["difference"], "difference_low": low, "difference_high": high}
            yield tuple(pair[f"{part}_{other}"] for part in _NAME), {**values, "difference_p": pair["p"]}
            return


def _names(row: Row) -> list[str]:
    """Return the possible names of a row, the shortest first."""
    short, long = str(row["method"]), f"{row['method']} on {row['backbone']}"
    return [short, long, f"{short} ({row['settings']})", f"{long} ({row['settings']})"]


def _check_alone(chosen: list[Row], name: str) -> None:
    """Raise RunError if a name matches several rows of one table."""
    for row in chosen:
        others = [other for other in chosen if _compared(other) == _compared(row)]
        if len(others) > 1:
            several = len({other["backbone"] for other in others}) == len(others)
            known = ", ".join(repr(_names(other)[1 if several else 3]) for other in others)
            raise RunError(f"baseline {name!r} could be {known}; write one of them")


def _compared(row: Row) -> tuple[Any, ...]:
    return tuple(row[part] for part in _COMPARED)


def _rows(table: pd.DataFrame) -> list[Row]:
    """Return rows as plain values; missing ones are None."""
    plain = table.astype(object).where(table.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]

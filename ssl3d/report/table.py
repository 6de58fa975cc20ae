"""The tables of the report: rows of cells that know how they are shown and how they are sorted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ssl3d.report.material import Row, Run, records

Value = float | str | None


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: shown.
        key: sorted by; None comes last in either direction.
        kind: "letters", "name", "flag" or "" decide how it looks.
    """

    text: str
    key: Value
    kind: str = ""


@dataclass(frozen=True)
class Column:
    """A column: its title, what it means, and whether paper and phones can do without it."""

    title: str
    meaning: str
    numeric: bool = False
    minor: bool = False


@dataclass(frozen=True)
class Table:
    """A table with, for each row, the protocol that it is filtered by."""

    columns: list[Column]
    rows: list[list[Cell]]
    protocols: list[str]


def ranked(run: Run) -> Table:
    """Return the leaderboard; columns without any content are left out."""
    rows = records(run.board)
    made = [[make(run, row) for _, make in _RANKED] for row in rows]
    kept = [i for i, (column, _) in enumerate(_RANKED) if not column.minor or any(row[i].text for row in made)]
    places = {(row["task"], row["plane"]) for row in rows}
    if len(places) < 2:
        kept = [i for i in kept if _RANKED[i][0].title not in {"task", "plane"}]
    return Table(
        [_RANKED[i][0] for i in kept], [[row[i] for i in kept] for row in made], [str(row["protocol"]) for row in rows]
    )


def paired(run: Run) -> Table:
    """Return the comparisons: one row a pair."""
    rows = records(run.pairs)
    several = len({(row["task"], row["plane"]) for row in rows}) > 1
    columns = [column for column in _PAIRED if several or column.title not in {"task", "plane"}]
    made = [_pair(run, row) for row in rows]
    return Table(
        columns, [[row[column.title] for column in columns] for row in made], [row["protocol"] for row in rows]
    )


def number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """Return a number as text; nothing where it is missing."""
    return "" if value is None else f"{value:{sign}.{digits}f}"


def seconds(value: float | None) -> str:
    """Return a time: "8.2 s", "12 min", "3.4 h"."""
    if value is None:
        return ""
    if value < 120:
        return f"{value:.3g} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def scaled(value: float | None, unit: str) -> str:
    """Return a large number with a prefix: "1.51 TFLOP"."""
    if not value:
        return ""
    power = min(5, int(math.log10(value) // 3)) if value >= 1 else 0
    return f"{value / 1000**power:.3g} {['', 'k', 'M', 'G', 'T', 'P'][power]}{unit}"


def probability(p: float | None) -> str:
    """Return a p value: three digits, or that it is below the last of them."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _auc(_: Run, row: Row) -> Cell:
    if row["auc"] is None:
        return Cell(row["status"] if row["status"] != "done" else "none", None)
    interval = "" if row["ci_low"] is None else f" ({number(row['ci_low'])}-{number(row['ci_high'])})"
    return Cell(number(row["auc"]) + interval, row["auc"])


def _collapsed(_: Run, row: Row) -> Cell:
    return Cell("collapsed", 1, "flag") if row["collapsed"] else Cell("", None)


def _text(field: str, kind: str = "") -> Any:
    return lambda _, row: Cell("" if row[field] is None else str(row[field]), row[field], kind)


def _number(field: str, digits: int = 3) -> Any:
    return lambda _, row: Cell(number(row[field], digits), row[field])


_RANKED: list[tuple[Column, Any]] = [
    (Column("rank", "1 + the number of methods shown to be better", numeric=True), _text("rank")),
    (Column("method", ""), lambda run, row: Cell(run.name_of_row(row), run.name_of_row(row), "name")),
    (Column("protocol", "how the encoder was judged"), _text("protocol")),
    (Column("task", "label that is predicted"), _text("task")),
    (Column("plane", "plane of the exam"), _text("plane")),
    (Column("AUC", "area under the ROC curve on the test cases, with its 95% interval", numeric=True), _auc),
    (Column("group", "methods that share a letter cannot be separated"), _text("group", "letters")),
    (Column("seeds", "finished seeds", numeric=True), _text("seeds")),
    (Column("spread", "standard deviation over seeds", numeric=True, minor=True), _number("spread")),
    (Column("AP", "average precision", numeric=True, minor=True), _number("average_precision")),
    (Column("bal. acc.", "balanced accuracy", numeric=True, minor=True), _number("balanced_accuracy")),
    (Column("sens.", "sensitivity", numeric=True, minor=True), _number("sensitivity")),
    (Column("spec.", "specificity", numeric=True, minor=True), _number("specificity")),
    (Column("Brier", "Brier score, smaller is better", numeric=True, minor=True), _number("brier")),
    (Column("gradient", "what accumulation did to the gradient", minor=True), _text("exactness")),
    (Column("collapse", "marked where features have collapsed", minor=True), _collapsed),
    (
        Column("pretraining", "time, mean over seeds", numeric=True, minor=True),
        lambda _, row: Cell(seconds(row["pretrain_seconds"]), row["pretrain_seconds"]),
    ),
    (
        Column("operations", "floating-point operations of pretraining", numeric=True, minor=True),
        lambda _, row: Cell(scaled(row["flops"], "FLOP"), row["flops"]),
    ),
    (
        Column("memory", "peak on the device", numeric=True, minor=True),
        lambda _, row: Cell(scaled(row["peak_memory_bytes"], "B"), row["peak_memory_bytes"]),
    ),
    (Column("ECE", "expected calibration error", numeric=True, minor=True), _number("ece")),
]
_PAIRED = [
    Column("protocol", ""),
    Column("task", ""),
    Column("plane", ""),
    Column("A", "the one with the higher AUC"),
    Column("B", ""),
    Column("AUC A - B", "", numeric=True),
    Column("95% interval", "not corrected for the number of pairs"),
    Column("p", "two-sided", numeric=True),
    Column("p (Holm)", "corrected for the number of pairs", numeric=True),
    Column("detectable", "difference that one such test finds in 8 of 10 trials", numeric=True, minor=True),
    Column("verdict", "at 5% after correction"),
]


def _pair(run: Run, row: Row) -> dict[str, Cell]:
    a, b = (run.names[row[f"method_{x}"], row[f"backbone_{x}"], row[f"settings_{x}"]] for x in "ab")
    cells = {name: Cell(str(row[name] or ""), row[name]) for name in ("protocol", "task", "plane")}
    return cells | {
        "A": Cell(a, a, "name"),
        "B": Cell(b, b, "name"),
        "AUC A - B": Cell(number(row["difference"], sign="+"), row["difference"]),
        "95% interval": Cell(
            f"{number(row['ci_low'], sign='+')} to {number(row['ci_high'], sign='+')}"
            if row["ci_low"] is not None
            else "",
            row["ci_low"],
        ),
        "p": Cell(probability(row["p"]), row["p"]),
        "p (Holm)": Cell(probability(row["p_holm"]), row["p_holm"]),
        "detectable": Cell(number(row["smallest_detectable"]), row["smallest_detectable"]),
        "verdict": Cell(f"{'= ' if row['verdict'] == 'cannot be separated' else '≠ '}{row['verdict']}", row["p_holm"]),
    }

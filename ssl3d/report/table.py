"""The tables of the report: rows of cells with their display and sort key."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ssl3d.report.material import Row, Run, plain_rows

Value = float | str | None
SHARED = {"data", "task", "plane"}  # titles of columns that are left out if all rows agree


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: displayed text.
        key: sort key; None comes last in either direction.
        kind: "letters", "name", "flag" or "", which decides the style.
    """

    text: str
    key: Value
    kind: str = ""


@dataclass(frozen=True)
class Column:
    """A column: its title, its meaning, and whether it can be left out on paper (``minor``)."""

    title: str
    meaning: str
    numeric: bool = False
    minor: bool = False


@dataclass(frozen=True)
class Table:
    """A table with the protocol of each row, by which it can be filtered."""

    columns: list[Column]
    rows: list[list[Cell]]
    protocols: list[str]


Make = Callable[[Run, Row], Cell]


def ranked(run: Run) -> Table:
    """Return the leaderboard without empty columns."""
    return _table(run, run.rows, _RANKED)


def paired(run: Run) -> Table:
    """Return the comparisons: one row per pair."""
    return _table(run, plain_rows(run.tables.comparisons), _PAIRED)


def _table(run: Run, rows: list[Row], columns: list[tuple[Column, Make]]) -> Table:
    made = [[make(run, row) for _, make in columns] for row in rows]
    kept = []
    for index, (column, _) in enumerate(columns):
        texts = {row[index].text for row in made}
        if texts != {""} and (column.title not in SHARED or len(texts) > 1):
            kept.append(index)
    protocols = [str(row["protocol"]) for row in rows]
    return Table([columns[i][0] for i in kept], [[row[i] for i in kept] for row in made], protocols)


def number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """Return a number as text; empty if missing."""
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
    if value is None:
        return ""
    power = min(5, int(math.log10(value) // 3)) if value >= 1 else 0
    return f"{value / 1000**power:.3g} {['', 'k', 'M', 'G', 'T', 'P'][power]}{unit}"


def probability(p: float | None) -> str:
    """Return a p value: three digits, or below the smallest of these."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _auc(_: Run, row: Row) -> Cell:
    if row["auc"] is None:
        return Cell(row["status"] if row["status"] != "done" else "none", None)
    return Cell(number(row["auc"]) + _interval(row, "-", ""), row["auc"])


def _interval(row: Row, between: str, sign: str) -> str:
    if row["ci_low"] is None:
        return ""
    return f" ({number(row['ci_low'], sign=sign)}{between}{number(row['ci_high'], sign=sign)})"


def _flag(field: str, text: str) -> Make:
    return lambda _, row: Cell(text, 1, "flag") if row[field] else Cell("", None)


def _text(field: str, kind: str = "") -> Make:
    return lambda _, row: Cell("" if row[field] is None else str(row[field]), row[field], kind)


def _number(field: str, digits: int = 3) -> Make:
    return lambda _, row: Cell(number(row[field], digits), row[field])


def _shown(field: str, show: Callable[[float | None], str]) -> Make:
    return lambda _, row: Cell(show(row[field]), row[field])


def _name(run: Run, row: Row, which: str) -> Cell:
    text = run.names[row[f"method_{which}"], row[f"backbone_{which}"], row[f"settings_{which}"]]
    return Cell(text, text, "name")


def _gradient(_: Run, row: Row) -> Cell:
    """Return the effect of accumulation on the gradient, with the measured error."""
    error = "" if row["gradient_error"] is None else f" ({row['gradient_error']:.0e})"
    return Cell(f"{row['exactness'] or ''}{error}", row["exactness"])


def _verdict(_: Run, row: Row) -> Cell:
    return Cell(f"{'= ' if row['verdict'] == 'cannot be separated' else '≠ '}{row['verdict']}", row["p_holm"])


_SUBJECT: list[tuple[Column, Make]] = [
    (Column("data", "data set that encoders were evaluated on"), _text("data")),
    (Column("task", "target that is predicted"), _text("task")),
    (Column("plane", "plane of the exam"), _text("plane")),
]
_RANKED: list[tuple[Column, Make]] = [
    (Column("rank", "methods that share a letter share a rank; none with one seed", numeric=True), _text("rank")),
    (Column("method", ""), lambda run, row: Cell(run.name_of_row(row), run.name_of_row(row), "name")),
    (
        Column("saw labels", "marked where the method saw labels of the training volumes"),
        _flag("labels_used", "labels"),
    ),
    (Column("protocol", "how the encoder was evaluated"), _text("protocol")),
    (Column("read-out", "features that were evaluated, as the training cases chose"), _text("readout")),
    *_SUBJECT,
    (Column("AUC", "area under the ROC curve on the test cases, with its 95% interval", numeric=True), _auc),
    (Column("group", "methods that share a letter cannot be separated"), _text("group", "letters")),
    (Column("seeds", "complete seeds", numeric=True), _text("seeds")),
    (Column("spread", "standard deviation over seeds", numeric=True, minor=True), _number("spread")),
    (Column("MAE", "mean absolute error, smaller is better", numeric=True), _number("mae")),
    (Column("R2", "coefficient of determination", numeric=True), _number("r2")),
    (Column("kappa", "Cohen's kappa with quadratic weights", numeric=True), _number("quadratic_kappa")),
    (Column("AP", "average precision", numeric=True, minor=True), _number("average_precision")),
    (Column("bal. acc.", "balanced accuracy", numeric=True, minor=True), _number("balanced_accuracy")),
    (Column("sens.", "sensitivity", numeric=True, minor=True), _number("sensitivity")),
    (Column("spec.", "specificity", numeric=True, minor=True), _number("specificity")),
    (Column("Brier", "Brier score, smaller is better", numeric=True, minor=True), _number("brier")),
    (Column("pretrained on", "corpus of the encoder; empty: not pretrained here", minor=True), _text("corpus")),
    (Column("gradient", "what accumulation did to it, and its relative error", minor=True), _gradient),
    (Column("collapse", "marked where features have collapsed", minor=True), _flag("collapsed", "collapsed")),
    (
        Column("pretraining", "time, mean over seeds", numeric=True, minor=True),
        _shown("pretrain_seconds", seconds),
    ),
    (
        Column("operations", "floating-point operations of pretraining", numeric=True, minor=True),
        _shown("flops", lambda value: scaled(value, "FLOP")),
    ),
    (
        Column("memory", "peak on the device", numeric=True, minor=True),
        _shown("peak_memory_bytes", lambda value: scaled(value, "B")),
    ),
    (Column("ECE", "expected calibration error", numeric=True, minor=True), _number("ece")),
]
_PAIRED: list[tuple[Column, Make]] = [
    (Column("protocol", ""), _text("protocol")),
    *_SUBJECT,
    (Column("A", "the one with the higher AUC"), lambda run, row: _name(run, row, "a")),
    (Column("B", ""), lambda run, row: _name(run, row, "b")),
    (
        Column("AUC A - B", "", numeric=True),
        lambda _, row: Cell(number(row["difference"], sign="+"), row["difference"]),
    ),
    (
        Column("95% interval", "not corrected for the number of pairs"),
        lambda _, row: Cell(_interval(row, " to ", "+").strip(" ()"), row["ci_low"]),
    ),
    (Column("p", "two-sided", numeric=True), _shown("p", probability)),
    (Column("p (Holm)", "corrected for the number of pairs", numeric=True), _shown("p_holm", probability)),
    (
        Column("detectable", "true difference found in 8 of 10 such test sets", numeric=True, minor=True),
        _number("smallest_detectable"),
    ),
    (Column("verdict", "at 5% after correction"), _verdict),
]

"""Rows of cells with their display and sort key, and what the tables of the report have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ssl3d.evaluate.statistics.measures import MEASURES
from ssl3d.report.material import Row, Run
from ssl3d.report.score import interval
from ssl3d.tables.formats.texts import digits

Value = float | str | None
SHARED = {"data", "task", "plane", "metric", "label"}  # titles of columns that are left out if all rows agree


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
    """A table.

    Attributes:
        columns: those with a content.
        rows: one cell per column.
        protocols: of each row, by which it can be filtered.
        left_out: number of rows that are not shown.
    """

    columns: list[Column]
    rows: list[list[Cell]]
    protocols: list[str]
    left_out: int = 0


Make = Callable[[Run, Row], Cell]
Columns = Sequence[tuple[Column, Make]]


def table(run: Run, rows: Sequence[Row], columns: Columns, left_out: int = 0) -> Table:
    """Return a table of rows, without empty columns and those of :data:`SHARED` in which all rows agree."""
    made = [[make(run, row) for _, make in columns] for row in rows]
    kept = []
    for index, (column, _) in enumerate(columns):
        texts = {row[index].text for row in made}
        if texts != {""} and (column.title not in SHARED or len(texts) > 1):
            kept.append(index)
    protocols = [str(row["protocol"]) for row in rows]
    return Table([columns[i][0] for i in kept], [[row[i] for i in kept] for row in made], protocols, left_out)


def number(value: float | None, decimals: int = 3) -> str:
    """Return a number as text; empty if missing."""
    return "" if value is None else f"{value:.{decimals}f}"


def scored(value: float | None, sign: str = "") -> str:
    """Return a score, or a difference of scores, as text; empty if missing."""
    return "" if value is None else digits(value, sign)


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


def flag(field: str, text: str) -> Make:
    """Return what makes a marked cell where a field is true."""
    return lambda _, row: Cell(text, 1, "flag") if row[field] else Cell("", None)


def text(field: str, kind: str = "") -> Make:
    """Return what makes a cell of a text or an integer."""
    return lambda _, row: Cell("" if row[field] is None else str(row[field]), row[field], kind)


def shown(field: str, show: Callable[[float | None], str] = number) -> Make:
    """Return what makes a cell of a number."""
    return lambda _, row: Cell(show(row[field]), row[field])


def name(run: Run, row: Row) -> Cell:
    """Make the cell of a method's name."""
    return Cell(run.name_of_row(row), run.name_of_row(row), "name")


def metric(_: Run, row: Row) -> Cell:
    """Make the cell of a metric's name."""
    title = MEASURES[row["metric"]].title if row["metric"] is not None else ""
    return Cell(title, title or None)


def score(_: Run, row: Row) -> Cell:
    """Make the cell of a score with its interval."""
    if row["score"] is None:
        return Cell("none", None)
    return Cell(digits(row["score"]) + interval(row, "-"), row["score"])


SUBJECT: Columns = [
    (Column("data", "data set that encoders were evaluated on"), text("data")),
    (Column("task", "target that is predicted"), text("task")),
    (Column("plane", "plane of the exam"), text("plane")),
]
LETTERS = Column("group", "methods that share a letter cannot be separated")
SPREAD = (
    Column("spread", "standard deviation of the score over seeds", numeric=True, minor=True),
    shown("spread", scored),
)


def score_columns(run: Run, rows: Sequence[Row], make: Make = score) -> Columns:
    """Return the column of the score, named by what it is; with a column that names it if it differs between rows."""
    known = [row for row in rows if row["metric"] is not None]
    metrics = list(dict.fromkeys(row["metric"] for row in known))
    explained = [f"{MEASURES[one].title}, {MEASURES[one].meaning}" for one in metrics]
    if len(metrics) < 2:
        of = run.score_of(known or rows)
        units = {run.score_of([row]).unit for row in known} if of.unit else set()
        unit = f", in {of.unit}," if len(units) == 1 else ""
        meaning = f"{of.measure.meaning}{unit} on the test cases, with its 95% interval"
        return [(Column(of.title, meaning, numeric=True), make)]
    return [
        (Column("metric", f"score that is compared: {'; '.join(explained)}"), metric),
        (Column("score", "this metric on the test cases, with its 95% interval", numeric=True), make),
    ]

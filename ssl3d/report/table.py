"""The tables of the report: rows of cells with their display and sort key."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from ssl3d.evaluate.statistics.design import SEEDS
from ssl3d.report.material import Row, Run, plain_rows, subject_of
from ssl3d.report.next_steps import Needed, needed
from ssl3d.tables.entry import Key
from ssl3d.tables.standings import Pair

TIED = "cannot be separated"  # as in comparisons.csv
FAR = {"seeds": f"over {SEEDS}", "patients": "over 20 times"}
Value = float | str | None
PAIRS = 21  # of one table and protocol: all those of seven methods
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


def ranked(run: Run) -> Table:
    """Return the leaderboard without empty columns."""
    return _table(run, run.rows, _RANKED)


def paired(run: Run) -> Table:
    """Return the comparisons, those of the headlines first: one row per pair, the most informative ones."""
    every = list(zip(plain_rows(run.tables.comparisons), run.tables.pairs, strict=True))
    groups: dict[tuple[str, ...], list[tuple[Row, Pair]]] = {(*of, name): [] for of, name, _ in run.by_table()}
    for row, pair in every:
        groups[*subject_of(row), row["protocol"]].append((row, pair))
    shown = [one for group in groups.values() for one in informative(group)]
    table = _table(run, [{**row, "needed": needed(pair)} for row, pair in shown], _PAIRED)
    return replace(table, left_out=len(every) - len(shown))


def informative(pairs: list[tuple[Row, Pair]]) -> list[tuple[Row, Pair]]:
    """Return the pairs of one table and protocol: all, or those with the first method and of neighbours in the ranking.

    Args:
        pairs: in the order of the ranking of their first, then of their second method.
    """
    if len(pairs) <= PAIRS:
        return pairs
    nearest: dict[Key, tuple[Row, Pair]] = {}  # the next one in the ranking, by the key of the first
    for row, pair in pairs:
        nearest.setdefault(pair.a.key, (row, pair))
    first, *others = nearest
    with_first = [one for one in pairs if one[1].a.key == first]
    return with_first[: PAIRS // 2] + [nearest[key] for key in others][: PAIRS - PAIRS // 2]


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
    """Return the verdict in words: no sign says "not shown to differ" without saying "equal"."""
    if row["verdict"] == TIED:
        return Cell(TIED, row["p_holm"])
    return Cell("A scores higher" if row["about"] == "methods" else "this encoder of A scores higher", row["p_holm"])


def _needed(_: Run, row: Row, what: Literal["seeds", "patients"]) -> Cell:
    found: Needed | None = row["needed"]
    if found is None:
        return Cell("", None)
    value = getattr(found, what)
    known = what == "patients" or min(row["seeds_a"], row["seeds_b"]) > 1
    return Cell(str(value) if value else FAR[what] if known else "", value or math.inf if known else None)


_SUBJECT: list[tuple[Column, Make]] = [
    (Column("data", "data set that encoders were evaluated on"), _text("data")),
    (Column("task", "target that is predicted"), _text("task")),
    (Column("plane", "plane of the exam"), _text("plane")),
]
_RANKED: list[tuple[Column, Make]] = [
    (Column("rank", "methods that share a letter share a rank; none with one seed", numeric=True), _text("rank")),
    (
        Column("method", "pretraining method, with its backbone or settings where these differ"),
        lambda run, row: Cell(run.name_of_row(row), run.name_of_row(row), "name"),
    ),
    (
        Column("saw labels", "marked where the method saw labels of the training volumes"),
        _flag("labels_used", "labels"),
    ),
    (Column("protocol", "how the encoder was evaluated"), _text("protocol")),
    (Column("read-out", "features that were evaluated, as the training cases chose"), _text("readout")),
    *_SUBJECT,
    (Column("AUC", "area under the ROC curve on the test cases, with its 95% interval", numeric=True), _auc),
    (Column("group", "methods that share a letter cannot be separated"), _text("group", "letters")),
    (Column("seeds", "number of complete seeds", numeric=True), _text("seeds")),
    (Column("spread", "standard deviation of the AUC over seeds", numeric=True, minor=True), _number("spread")),
    (Column("MAE", "mean absolute error, smaller is better", numeric=True), _number("mae")),
    (Column("R2", "coefficient of determination", numeric=True), _number("r2")),
    (Column("kappa", "Cohen's kappa with quadratic weights", numeric=True), _number("quadratic_kappa")),
    (
        Column("AP", "average precision: area under the precision-recall curve", numeric=True, minor=True),
        _number("average_precision"),
    ),
    (
        Column("bal. acc.", "balanced accuracy: mean of sensitivity and specificity", numeric=True, minor=True),
        _number("balanced_accuracy"),
    ),
    (
        Column("sens.", "sensitivity: share of the positive cases found", numeric=True, minor=True),
        _number("sensitivity"),
    ),
    (
        Column("spec.", "specificity: share of the negative cases recognised", numeric=True, minor=True),
        _number("specificity"),
    ),
    (Column("Brier", "Brier score, smaller is better", numeric=True, minor=True), _number("brier")),
    (Column("pretrained on", "corpus of the encoder; empty: not pretrained here", minor=True), _text("corpus")),
    (Column("gradient", "what accumulation did to the gradient, and its relative error", minor=True), _gradient),
    (Column("collapse", "marked where features have collapsed", minor=True), _flag("collapsed", "collapsed")),
    (
        Column("pretraining", "time of pretraining, mean over seeds", numeric=True, minor=True),
        _shown("pretrain_seconds", seconds),
    ),
    (
        Column("operations", "floating-point operations of pretraining", numeric=True, minor=True),
        _shown("flops", lambda value: scaled(value, "FLOP")),
    ),
    (
        Column("memory", "peak memory of pretraining on the device", numeric=True, minor=True),
        _shown("peak_memory_bytes", lambda value: scaled(value, "B")),
    ),
    (Column("ECE", "expected calibration error", numeric=True, minor=True), _number("ece")),
]
_PAIRED: list[tuple[Column, Make]] = [
    (Column("protocol", "how the encoders were evaluated"), _text("protocol")),
    *_SUBJECT,
    (Column("A", "the method with the higher AUC"), lambda run, row: _name(run, row, "a")),
    (Column("B", "the method with the lower AUC"), lambda run, row: _name(run, row, "b")),
    (
        Column("AUC A - B", "difference of the AUCs on the same test cases", numeric=True),
        lambda _, row: Cell(number(row["difference"], sign="+"), row["difference"]),
    ),
    (
        Column("95% interval", "of the difference, not corrected for the number of pairs"),
        lambda _, row: Cell(_interval(row, " to ", "+").strip(" ()"), row["ci_low"]),
    ),
    (Column("p", "two-sided p value of no difference", numeric=True), _shown("p", probability)),
    (
        Column("p (Holm)", "p corrected for all pairs of the same table and protocol", numeric=True),
        _shown("p_holm", probability),
    ),
    (
        Column("detectable", "true difference that the corrected test finds in 8 of 10 such test sets", numeric=True),
        _number("smallest_detectable"),
    ),
    (Column("verdict", "at 5% after correction; it holds for these settings and data"), _verdict),
    (
        Column(
            "patients needed",
            "number of test patients, with the same seeds, at which a true difference as large as the observed one "
            "would be found in 8 of 10 test sets",
            numeric=True,
        ),
        partial(_needed, what="patients"),
    ),
    (
        Column("seeds needed", "the same for the seeds of each method, with the same number of patients", numeric=True),
        partial(_needed, what="seeds"),
    ),
]

"""The table of the report that ranks methods."""

from __future__ import annotations

from functools import partial

from ssl3d.report.material import Row, Run
from ssl3d.report.tables import cells
from ssl3d.report.tables.cells import Cell, Column, Columns, Make, Table, flag, scaled, seconds, shown, table, text


def ranked(run: Run) -> Table:
    """Return the leaderboard without empty columns."""
    return table(run, run.rows, [*_FIRST, *cells.score_columns(run, run.rows, _score), *_LATER])


def _score(run: Run, row: Row) -> Cell:
    """Make the cell of a score; without one, of the status."""
    if row["score"] is None and row["status"] != "done":
        return Cell(row["status"], None)
    return cells.score(run, row)


def _further(field: str, run: Run, row: Row) -> Cell:
    """Make the cell of a metric; empty where it is the score."""
    return Cell("", None) if row["metric"] == field else shown(field, cells.scored)(run, row)


def _gradient(_: Run, row: Row) -> Cell:
    """Return the effect of accumulation on the gradient, with the measured error."""
    error = "" if row["gradient_error"] is None else f" ({row['gradient_error']:.0e})"
    return Cell(f"{row['exactness'] or ''}{error}", row["exactness"])


def _metric(title: str, meaning: str, field: str, *, minor: bool = False) -> tuple[Column, Make]:
    return Column(title, meaning, numeric=True, minor=minor), partial(_further, field)


def _chosen_rate(_: Run, row: Row) -> Cell:
    return Cell("" if row["tuned"] is None else str(row["lr"]), row["lr"])


_FIRST: Columns = [
    (Column("rank", "methods that share a letter share a rank; none with one seed", numeric=True), text("rank")),
    (Column("method", "pretraining method, with its backbone or settings where these differ"), cells.name),
    (
        Column("saw labels", "marked where the method saw labels of the training volumes"),
        flag("labels_used", "labels"),
    ),
    (Column("protocol", "how the encoder was evaluated"), text("protocol")),
    (Column("read-out", "features that were evaluated, as the training cases chose"), text("readout")),
    *cells.SUBJECT,
]
_LATER: Columns = [
    (cells.LETTERS, text("group", "letters")),
    (Column("seeds", "number of complete seeds", numeric=True), text("seeds")),
    cells.SPREAD,
    _metric("AUC", "area under the ROC curve", "auc"),
    _metric("R2", "coefficient of determination", "r2"),
    _metric("Spearman", "Spearman's rank correlation", "spearman"),
    _metric("AP", "average precision: area under the precision-recall curve", "average_precision", minor=True),
    _metric("bal. acc.", "balanced accuracy: mean of sensitivity and specificity", "balanced_accuracy", minor=True),
    _metric("sens.", "sensitivity: share of the positive cases found", "sensitivity", minor=True),
    _metric("spec.", "specificity: share of the negative cases recognised", "specificity", minor=True),
    _metric("Brier", "Brier score, smaller is better", "brier", minor=True),
    (Column("pretrained on", "corpus of the encoder; empty: not pretrained here", minor=True), text("corpus")),
    (Column("gradient", "what accumulation did to the gradient, and its relative error", minor=True), _gradient),
    (Column("collapse", "marked where features have collapsed", minor=True), flag("collapsed", "collapsed")),
    (
        Column("pretraining", "time of pretraining, mean over seeds", numeric=True, minor=True),
        shown("pretrain_seconds", seconds),
    ),
    (Column("chosen lr", "base learning rate, where it was chosen from a grid", minor=True), _chosen_rate),
    (
        Column("tuning", "time of choosing the learning rate, once for all seeds", numeric=True, minor=True),
        shown("tuning_seconds", seconds),
    ),
    (
        Column("operations", "floating-point operations of pretraining", numeric=True, minor=True),
        shown("flops", lambda value: scaled(value, "FLOP")),
    ),
    (
        Column("memory", "peak memory of pretraining on the device", numeric=True, minor=True),
        shown("peak_memory_bytes", lambda value: scaled(value, "B")),
    ),
    _metric("ECE", "expected calibration error", "ece", minor=True),
]

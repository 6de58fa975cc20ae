"""The meaning of every column of every CSV of a run, as one text. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ssl3d.files import LOG
from ssl3d.results.folder import (
    COMPARISONS,
    CURVES,
    EVALUATIONS,
    LEADERBOARD,
    PREDICTIONS,
    SCORES,
    SUMMARY,
    TRAINING,
    WINS,
)
from ssl3d.tables.baseline import COLUMNS as BASELINE
from ssl3d.tables.columns import Columns, ColumnType
from ssl3d.tables.write import TABLE_COLUMNS

OF_RUN = {
    LEADERBOARD: "one row per data set, task, plane, protocol, method and backbone; aggregated over seeds",
    COMPARISONS: "one row per pair of methods under one protocol, and metric",
    EVALUATIONS: "one row per evaluation: one encoder, one task, one protocol, all training labels or a part of them",
    CURVES: "one row per method, backbone, protocol and share of labels or of positives",
    SUMMARY: "one row per protocol and method: means over data sets, tasks and planes, if there are several",
    WINS: "one row per protocol and ordered pair of methods: how often one beats the other over these tasks",
    SCORES: "one row per row of the leaderboard, metric and label: every score with an interval, if there are several",
}
PREDICTION_COLUMNS: Columns = {
    "case": ColumnType("str", "id of the volume, as the data set spells it"),
    "patient": ColumnType("str", "id of the patient; the case's own where patients are unknown"),
    "label": ColumnType("Int64", "true class; float64 for a regression; label_0, label_1, ... for a multi-label task"),
    "p_0, p_1, ...": ColumnType("float64", "probability of each class or label; p_0 is the value of a regression"),
}
LOG_COLUMNS: Columns = {
    "epoch": ColumnType("float64", "counted from 1"),
    "step": ColumnType("float64", "optimiser steps so far"),
    "loss": ColumnType("float64", "mean over the epoch; further columns are scalars that the method's loss returns"),
    "lr": ColumnType("float64", "learning rate of the last step"),
    "feature_std": ColumnType("float64", "deviation of the normalised features, times sqrt(F); near 0: collapsed"),
    "effective_rank": ColumnType("float64", "of the features (RankMe)"),
    "alignment": ColumnType("float64", "mean squared distance of two views of a volume; for methods with two views"),
    "uniformity": ColumnType("float64", "log of the mean Gaussian potential of pairs; the lower, the more even"),
    "volumes_per_second": ColumnType("float64", "speed of the epoch"),
}


def document() -> str:
    """Return Markdown: one table per CSV, with the name, type and meaning of its columns."""
    return "\n\n".join(_parts()) + "\n"


def _parts() -> Iterator[str]:
    yield "Missing values are empty; types are those of pandas: str, Int64, float64, boolean. Intervals are at 95%."
    yield (
        "A text that begins with =, +, -, @, a tab or a line break, which a spreadsheet could run as a formula, is "
        "written with an apostrophe in front of it; so is an id such as -12. ssl3d removes one where it reads its own "
        "files, and `pandas.read_csv` does not. Numbers are written as they are."
    )
    for file, columns in TABLE_COLUMNS.items():
        yield from _part(file, OF_RUN[file], columns)
    yield from _part("leaderboard --baseline", f"added to {LEADERBOARD}", BASELINE)
    yield from _part(PREDICTIONS, "of an evaluation: one row per test volume", PREDICTION_COLUMNS)
    yield from _part(TRAINING, "of an evaluation: out-of-fold predictions of its training volumes", PREDICTION_COLUMNS)
    yield from _part(LOG, "of an encoder that was trained: one row per epoch", LOG_COLUMNS)


def _part(file: str, what: str, columns: Mapping[str, ColumnType]) -> Iterator[str]:
    yield f"## {file}: {what}"
    rows = [f"| {name} | {column.dtype} | {column.meaning.replace('|', ' ')} |" for name, column in columns.items()]
    yield "\n".join(["| column | type | meaning |", "| --- | --- | --- |", *rows])

"""What every column of every CSV of a run holds, as one text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ssl3d.tables.baseline import COLUMNS as BASELINE
from ssl3d.tables.typed import Column, Columns
from ssl3d.tables.write import TABLE_COLUMNS

OF_RUN = {
    "leaderboard.csv": "one row a task, plane, protocol, method and backbone; aggregated over seeds",
    "comparisons.csv": "one row a pair of methods under one protocol",
    "cells.csv": "one row a cell and protocol",
    "curves.csv": "one row a method, backbone, protocol and share of labels or of positives",
}
PREDICTIONS: Columns = {
    "protocol": Column("str", "linear, knn or finetune"),
    "condition": Column("str", "part of the training labels that was used; empty for all of them"),
    "case": Column("str", "id of the volume, as the data set spells it"),
    "label": Column("Int64", "true class"),
    "p_0, p_1, ...": Column("float64", "probability of each class"),
}
LOG: Columns = {
    "epoch": Column("float64", "counted from 1"),
    "step": Column("float64", "optimiser steps so far"),
    "loss": Column("float64", "mean over the epoch; further columns are scalars that the method's loss returns"),
    "lr": Column("float64", "learning rate of the last step"),
    "feature_std": Column("float64", "deviation of the normalised features, times sqrt(F); near 0: collapsed"),
    "effective_rank": Column("float64", "of the features (RankMe)"),
    "alignment": Column("float64", "mean squared distance of two views of a volume; for methods with two views"),
    "uniformity": Column("float64", "log of the mean Gaussian potential of pairs; the lower, the more even"),
    "volumes_per_second": Column("float64", "speed of the epoch"),
}


def document() -> str:
    """Return Markdown: a table for each CSV, with name, type and meaning of its columns."""
    return "\n\n".join(_parts()) + "\n"


def _parts() -> Iterator[str]:
    yield "Missing values are empty; types are those of pandas: str, Int64, float64, boolean. Intervals are at 95%."
    for file, columns in TABLE_COLUMNS.items():
        yield from _part(file, OF_RUN[file], columns)
    yield from _part("leaderboard --baseline", "adds to leaderboard.csv", BASELINE)
    yield from _part("predictions.csv", "of a cell: one row a protocol, condition and test volume", PREDICTIONS)
    yield from _part("log.csv", "of a cell that was trained: one row an epoch", LOG)
    yield from _part("training.csv", "of a cell: out-of-fold predictions of its training volumes", PREDICTIONS)


def _part(file: str, what: str, columns: Mapping[str, Column]) -> Iterator[str]:
    yield f"## {file}: {what}"
    rows = [f"| {name} | {column.dtype} | {column.meaning.replace('|', ' ')} |" for name, column in columns.items()]
    yield "\n".join(["| column | type | meaning |", "| --- | --- | --- |", *rows])

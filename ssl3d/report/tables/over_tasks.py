"""The tables of the report that sum up over tasks."""

from __future__ import annotations

import re

from ssl3d.report.material import Run
from ssl3d.report.tables.cells import Cell, Column, Table, Value
from ssl3d.tables.formats.summary import Titled, overview

MEANINGS = {
    "method": "pretraining method that is complete in every task",
    "backbone": "its network",
    "mean rank": "rank among these methods by score, mean over tasks, with its 95% interval; 1 is best",
    "wins": "how often it beats another method, over draws, tasks and other methods",
    "seeds": "smallest number of complete seeds of a task",
}


def summed(run: Run) -> list[tuple[str, Table]]:
    """Return the summary over tasks, then how often each method beats each other one; none if there is one task.

    Returns:
        (the sentences above a table, the table), by protocol.
    """
    return [(titled.title, _table(titled)) for titled in overview(run.tables)]


def _table(titled: Titled) -> Table:
    """Return a table of texts; a square of names against names has no meanings but its sentences."""
    columns = [_column(str(title)) for title in titled.table.columns]
    rows = [
        [_cell(str(text), column) for text, column in zip(row, columns, strict=True)]
        for row in titled.table.to_numpy().tolist()
    ]
    return Table(columns, rows, [""] * len(rows))


def _column(title: str) -> Column:
    mean = "mean over tasks, with its 95% interval" if title.startswith("mean ") else ""
    return Column(title or "method", MEANINGS.get(title, mean), numeric=title not in {"", "method", "backbone"})


def _cell(text: str, column: Column) -> Cell:
    if not column.numeric:
        return Cell(text, text, "" if column.title == "backbone" else "name")
    return Cell(text, _leading(text))


def _leading(text: str) -> Value:
    """Return the number that a text begins with, by which it is sorted."""
    found = re.match(r"[+-]?\d+(?:\.\d+)?", text)
    return float(found[0]) if found else None

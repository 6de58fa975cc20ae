"""The table of the report with every further score: other metrics, and single labels of a multi-label task."""

from __future__ import annotations

from ssl3d.report.material import Run, plain_rows, subject_of
from ssl3d.report.tables.cells import LETTERS, SPREAD, SUBJECT, Column, Table, name, score_columns, table, text

MOST = 200  # rows


def further(run: Run) -> Table:
    """Return the scores that do not decide ranks, those of the headlines first; no row if there are none."""
    scores = run.tables.scores
    rows = plain_rows(scores[~scores["primary"]])
    rows.sort(key=lambda row: subject_of(row) not in run.headlines)
    columns = [
        (Column("protocol", "how the encoder was evaluated"), text("protocol")),
        *SUBJECT,
        (Column("label", "the only label of a multi-label task that is scored"), text("label")),
        (Column("method", "pretraining method, with its backbone or settings where these differ"), name),
        *(score_columns(run, rows) if rows else ()),
        (LETTERS, text("group", "letters")),
        SPREAD,
    ]
    return table(run, rows[:MOST], columns, max(0, len(rows) - MOST))

"""What a reader must know of how a table was made. Loads no torch."""

from __future__ import annotations

import pandas as pd

from ssl3d.tables.entry import MEAN, PLUS

_OF_TASKS = (
    "Scores are means over tasks; intervals and tests are from a bootstrap over seeds and over cases, which are drawn "
    "once for all tasks and whatever their labels (a draw that lacks a class of any task is drawn again)."
)
_OF_PLANES = (
    "Planes are combined by unpenalised logistic regression on their log-odds, fitted on out-of-fold predictions of "
    "the training cases."
)
_OF_FOLDS = (
    "Scores are means over folds; intervals and tests are made within folds and treat these as independent. The folds' "
    "encoders share training volumes, so both are optimistic about another sample of training volumes."
)


def remarks(leaderboard: pd.DataFrame) -> str:
    """Return how the table of one task and plane was made: means over tasks and folds, planes combined."""
    known = leaderboard[leaderboard["auc"].notna()]
    if known.empty:
        return ""
    row, found = known.iloc[0], []
    if str(row["task"]).startswith(MEAN):
        found.append(_OF_TASKS)
    if PLUS in str(row["plane"]):
        found.append(_OF_PLANES)
    if pd.notna(row["folds"]):
        found.append(_OF_FOLDS)
    return " ".join(found)

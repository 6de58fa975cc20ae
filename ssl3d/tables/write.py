"""The tables of a run as files. They are derived from records and can be regenerated at any time. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ssl3d.files import write_atomic
from ssl3d.results.folder import COMPARISONS, CURVES, EVALUATIONS, LEADERBOARD, LEADERBOARD_MD, SCORES, SUMMARY, WINS
from ssl3d.results.predictions import to_csv
from ssl3d.tables import comparisons, curves, evaluations, leaderboard, scores, summary
from ssl3d.tables.columns import Columns
from ssl3d.tables.formats.captions import unfinished
from ssl3d.tables.formats.markdown import to_markdown
from ssl3d.tables.formats.summary import overview
from ssl3d.tables.tables import Tables

TABLE_COLUMNS: Mapping[str, Columns] = {
    LEADERBOARD: leaderboard.COLUMNS,
    COMPARISONS: comparisons.COLUMNS,
    EVALUATIONS: evaluations.COLUMNS,
    CURVES: curves.COLUMNS,
    SCORES: scores.COLUMNS,
    SUMMARY: summary.COLUMNS,
    WINS: summary.WIN_COLUMNS,
}


def write_tables(run: Path, tables: Tables) -> None:
    """Write every table as CSV, and leaderboard.md, each atomically.

    Raises:
        RunError: evaluations of one table are not comparable, or the folder cannot be written.
    """
    for name, content in table_files(tables).items():
        write_atomic(run / name, content)


def table_files(tables: Tables) -> dict[str, str]:
    """Return the content of every table file by name; those that not every run has only if they have rows.

    Raises:
        RunError: evaluations of one table are not comparable.
    """
    frames: dict[str, pd.DataFrame] = {
        LEADERBOARD: tables.leaderboard,
        COMPARISONS: tables.comparisons,
        EVALUATIONS: tables.evaluations,
    }
    some = {CURVES: tables.curves, SCORES: tables.scores, SUMMARY: tables.summary, WINS: tables.wins}
    frames |= {name: frame for name, frame in some.items() if not frame.empty}
    return {**{name: to_csv(frame) for name, frame in frames.items()}, LEADERBOARD_MD: markdown(tables)}


def markdown(tables: Tables) -> str:
    """Return the content of leaderboard.md: the leaderboard, after a line on planned evaluations without a result."""
    above, text = unfinished(tables.results), to_markdown(tables.leaderboard, tables.comparisons, overview(tables))
    return f"{above}\n\n{text}" if above else text

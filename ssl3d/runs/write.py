"""The tables of a run, on the disk. Derived from results: they can be made again at any time."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ssl3d.runs.comparisons import comparisons
from ssl3d.runs.entries import Results
from ssl3d.runs.files import write_atomic
from ssl3d.runs.leaderboard import cells, leaderboard
from ssl3d.runs.render import to_csv, to_markdown


def write_tables(run_folder: Path, results: Results) -> pd.DataFrame:
    """Write leaderboard.csv, leaderboard.md, comparisons.csv and cells.csv, each atomically.

    Returns:
        The leaderboard.

    Raises:
        RunError: the cells are not comparable, or the folder cannot be written.
    """
    board, pairs = leaderboard(results), comparisons(results)
    write_atomic(run_folder / "leaderboard.csv", to_csv(board))
    write_atomic(run_folder / "leaderboard.md", to_markdown(board, pairs))
    write_atomic(run_folder / "comparisons.csv", to_csv(pairs))
    write_atomic(run_folder / "cells.csv", to_csv(cells(results)))
    return board

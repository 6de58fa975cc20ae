"""The tables of a run, on the disk. Derived from results: they can be made again at any time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ssl3d.results.files import write_atomic
from ssl3d.results.folder import cells_folder, read_plan
from ssl3d.results.records import RESULT
from ssl3d.tables.comparisons import COLUMNS as PAIR_COLUMNS
from ssl3d.tables.comparisons import comparisons
from ssl3d.tables.curves import COLUMNS as CURVE_COLUMNS
from ssl3d.tables.curves import curves
from ssl3d.tables.entries import Results
from ssl3d.tables.leaderboard import CELL_COLUMNS, COLUMNS, cells, leaderboard
from ssl3d.tables.render import to_csv, to_markdown
from ssl3d.tables.typed import Columns

TABLE_COLUMNS: Mapping[str, Columns] = {
    "leaderboard.csv": COLUMNS,
    "comparisons.csv": PAIR_COLUMNS,
    "cells.csv": CELL_COLUMNS,
    "curves.csv": CURVE_COLUMNS,
}


def tables(results: Results) -> dict[str, pd.DataFrame]:
    """Return the tables that results make, by the name of their file; curves.csv only where there are curves.

    Raises:
        RunError: the cells are not comparable.
    """
    found = curves(results)
    return {
        "leaderboard.csv": leaderboard(results),
        "comparisons.csv": comparisons(results),
        "cells.csv": cells(results),
        **({} if found.empty else {"curves.csv": found}),
    }


def write_tables(run_folder: Path, results: Results) -> pd.DataFrame:
    """Write every table as CSV, and leaderboard.md, each atomically.

    Returns:
        The leaderboard.

    Raises:
        RunError: the cells are not comparable, or the folder cannot be written.
    """
    made = tables(results)
    for name, table in made.items():
        write_atomic(run_folder / name, to_csv(table))
    write_atomic(run_folder / "leaderboard.md", markdown(run_folder, made))
    return made["leaderboard.csv"]


def markdown(run_folder: Path, made: Mapping[str, pd.DataFrame]) -> str:
    """Return what leaderboard.md holds: :func:`tables` in Markdown, below a line on planned cells without a result.

    Raises:
        RunError: plan.json is damaged.
    """
    said, text = unfinished(run_folder), to_markdown(made["leaderboard.csv"], made["comparisons.csv"])
    return f"{said}\n\n{text}" if said else text


def unfinished(run_folder: Path) -> str:
    """Return a sentence on the planned cells that have no result yet; empty if there are none, or no plan.

    Raises:
        RunError: plan.json is damaged.
    """
    planned = (read_plan(run_folder) or {"cells": {}})["cells"]
    count = sum(not (cells_folder(run_folder) / name / RESULT).exists() for name in planned)
    return f"{count} planned {'cell has' if count == 1 else 'cells have'} no result yet." if count else ""

"""Tables in a terminal; Markdown where there is none."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ssl3d.tables.comparisons import short_names
from ssl3d.tables.entry import Key
from ssl3d.tables.render import by_table, price_to_rich, to_markdown, to_rich


def show_leaderboard(board: pd.DataFrame, pairs: pd.DataFrame) -> None:
    """Print a leaderboard with its caption and what could not be concluded."""
    console = Console()
    if not console.is_terminal:
        console.file.write(to_markdown(board, pairs))
        return
    for one, its_pairs in by_table(board, pairs):
        console.print(to_rich(one, its_pairs, console.width))
    cost = price_to_rich(board)
    if cost is not None:
        console.print(cost)


def show_comparisons(pairs: pd.DataFrame) -> None:
    """Print one row a pair: difference of AUC with interval, p corrected by Holm, and the verdict in words."""
    console = Console(width=None if Console().is_terminal else 160)
    if pairs.empty:
        console.print("There is no pair to compare: one method only, or none with an AUC.")
        return
    place = [name for name in ("task", "plane") if pairs[name].nunique() > 1]
    table = Table(*place, "protocol", "A", "B", "AUC A - B", "95% interval", "p", "p (Holm)", "verdict")
    rows = pairs.to_dict("records")
    names = short_names({_key(row, which) for row in rows for which in "ab"})
    for row in rows:
        table.add_row(
            *(escape(str(row[name])) for name in place),
            escape(str(row["protocol"])),
            *(escape(names[_key(row, which)]) for which in "ab"),
            f"{row['difference']:+.3f}",
            f"{row['ci_low']:+.3f} to {row['ci_high']:+.3f}",
            f"{row['p']:.3g}",
            f"{row['p_holm']:.3g}",
            escape(str(row["verdict"])),
        )
    console.print(table)


def _key(row: Mapping[Hashable, Any], which: str) -> Key:
    """Method "a" or "b" of a row."""
    method, backbone, settings = (str(row[f"{name}_{which}"]) for name in ("method", "backbone", "settings"))
    task, plane = ("" if pd.isna(row[name]) else str(row[name]) for name in ("task", "plane"))
    return Key(str(row["protocol"]), method, backbone, settings, task, plane)

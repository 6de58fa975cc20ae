"""The leaderboard as Markdown. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from ssl3d.errors import printable
from ssl3d.tables.formats.captions import by_table, caption, conclusion, departures, remarks, versus
from ssl3d.tables.formats.texts import price, shown

if TYPE_CHECKING:
    from ssl3d.tables.formats.summary import Titled

PRICE = "Price of pretraining, mean over seeds"


def to_markdown(leaderboard: pd.DataFrame, comparisons: pd.DataFrame, first: Sequence[Titled] = ()) -> str:
    """Return Markdown: caption, table and conclusion per data set, task and plane; then price and departures.

    Args:
        leaderboard: rows of all tables.
        comparisons: pairs of all tables.
        first: further tables that come first, such as the summary over tasks.
    """
    parts = [part for title, table in first for part in (_escape(title), _table(table))]
    parts += [part for board, pairs in by_table(leaderboard, comparisons) for part in _parts(board, pairs)]
    cost = price(leaderboard)
    parts += [] if cost.empty else [f"{PRICE}:", _table(cost)]
    sentences = [f"- {_escape(sentence)}" for sentence in departures(leaderboard)]
    parts += ["Departures from the papers:\n\n" + "\n".join(sentences)] if sentences else []
    return "\n\n".join(part for part in parts if part) + "\n"


def _parts(leaderboard: pd.DataFrame, comparisons: pd.DataFrame) -> list[str]:
    below = [remarks(leaderboard), versus(leaderboard), conclusion(comparisons)]
    return [_escape(caption(leaderboard)), _table(shown(leaderboard)), *map(_escape, below)]


def _table(table: pd.DataFrame) -> str:
    rows = [list(table.columns), *table.to_numpy().tolist()]
    lines = ["| " + " | ".join(_escape(text) for text in row) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("---" for _ in table.columns) + " |")
    return "\n".join(lines)


def _escape(text: str) -> str:
    """Escape a text so that it stays in its cell, is not read as markup, and cannot control a terminal."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("\\", "\\\\")
    for mark in "|`*_[]!":
        text = text.replace(mark, f"\\{mark}")
    return printable(" ".join(text.split()))

"""Tables for people: Markdown, LaTeX, CSV, and a terminal. Synthetic data are called synthetic in each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pandas as pd

from ssl3d.tables.captions import by_table, caption, conclusion, departures, versus
from ssl3d.tables.latex import to_latex
from ssl3d.tables.remarks import remarks
from ssl3d.tables.texts import price, shown

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["by_table", "conclusion", "departures", "price_to_rich", "render", "to_csv", "to_markdown", "to_rich"]
Format = Literal["md", "latex", "csv", "svg"]
PRICE = "Price of pretraining, mean over seeds"


def to_markdown(leaderboard: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    """Return Markdown: for each task and plane caption, table and conclusion; at the end price and departures."""
    parts = [part for board, pairs in by_table(leaderboard, comparisons) for part in _markdown(board, pairs)]
    cost = price(leaderboard)
    parts += [] if cost.empty else [f"{PRICE}:", _markdown_table(cost)]
    sentences = [f"- {_escape_markdown(sentence)}" for sentence in departures(leaderboard)]
    parts += ["Departures from the papers:\n\n" + "\n".join(sentences)] if sentences else []
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(leaderboard: pd.DataFrame, comparisons: pd.DataFrame) -> list[str]:
    """Caption, table, and what it says, of one task and plane."""
    below = [remarks(leaderboard), versus(leaderboard), conclusion(comparisons)]
    return [
        _escape_markdown(caption(leaderboard)),
        _markdown_table(shown(leaderboard)),
        *map(_escape_markdown, below),
    ]


def _markdown_table(table: pd.DataFrame) -> str:
    rows = [list(table.columns), *table.to_numpy().tolist()]
    lines = ["| " + " | ".join(_escape_markdown(cell) for cell in row) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("---" for _ in table.columns) + " |")
    return "\n".join(lines)


def to_csv(table: pd.DataFrame) -> str:
    """Return any table as CSV; the column ``synthetic`` says what the caption says."""
    return table.to_csv(index=False, lineterminator="\n")


def to_rich(leaderboard: pd.DataFrame, comparisons: pd.DataFrame, width: int) -> Table:
    """Return the table of one task and plane (see :func:`by_table`) for a terminal ``width`` characters wide.

    What does not fit stays in the CSV.
    """
    from rich import box  # noqa: PLC0415  # only terminals need rich
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = _narrowed(shown(leaderboard), width)
    below = escape(" ".join(filter(None, (remarks(leaderboard), versus(leaderboard), conclusion(comparisons)))))
    out = Table(
        title=escape(caption(leaderboard)), caption=below, caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1)
    )
    for name in table.columns:
        out.add_column(name, no_wrap=name in _KEPT_WHOLE, overflow="fold")
    last = ""
    for row in table.to_dict("records"):
        if last and row["protocol"] != last:
            out.add_section()
        last = row["protocol"]
        out.add_row(*(escape(text) for text in row.values()))
    return out


def price_to_rich(leaderboard: pd.DataFrame) -> Table | None:
    """Return the price for a terminal; None if nothing was measured."""
    from rich import box  # noqa: PLC0415  # only terminals need rich
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    cost = price(leaderboard)
    if cost.empty:
        return None
    out = Table(*cost.columns, title=PRICE, box=box.SIMPLE_HEAD, padding=(0, 1))
    for row in cost.to_numpy().tolist():
        out.add_row(*map(escape, row))
    return out


def _narrowed(table: pd.DataFrame, width: int) -> pd.DataFrame:
    """Leave out columns, the least telling first, until a table of texts fits."""
    for name in _LEAVE_OUT:
        widths = [max(len(column), *map(len, table[column])) + 3 for column in table.columns]
        if sum(widths) <= width:
            break
        table = table.drop(columns=name, errors="ignore")
    return table


_LEAVE_OUT = (
    "Brier",
    "spec.",
    "sens.",
    "note",
    "bal. acc.",
    "seeds",
    "AP",
    "pretraining",
    "gradient",
    "collapse",
)
_KEPT_WHOLE = frozenset({"protocol", "rank", "AUC", "group", "difference", "p"})


def to_svg(leaderboard: pd.DataFrame, comparisons: pd.DataFrame, width: int = 130) -> str:
    """Return a picture of the table as a terminal shows it, ``width`` characters wide; it loads nothing."""
    import io  # noqa: PLC0415
    import re  # noqa: PLC0415

    from rich.console import Console  # noqa: PLC0415  # only terminals and their pictures need rich

    console = Console(record=True, width=width, file=io.StringIO())
    for board, pairs in by_table(leaderboard, comparisons):
        console.print(to_rich(board, pairs, width))
    cost = price_to_rich(leaderboard)
    if cost is not None:
        console.print(cost)
    drawn = console.export_svg(title="ssl3d leaderboard", unique_id="leaderboard")
    return re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)  # the reader's own fixed-width font will do


def render(leaderboard: pd.DataFrame, comparisons: pd.DataFrame, form: Format) -> str:
    """Return the leaderboard as Markdown, LaTeX, CSV or SVG."""
    if form == "csv":
        return to_csv(leaderboard)
    return {"md": to_markdown, "latex": to_latex, "svg": to_svg}[form](leaderboard, comparisons)


def _escape_markdown(text: str) -> str:
    """Keep a text in its cell and out of the markup."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("\\", "\\\\")
    for mark in "|`*_[]!":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())

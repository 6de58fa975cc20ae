"""The leaderboard for a terminal, and as a picture of one (SVG). Loads no torch; rich only when it is called."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ssl3d.errors import printable
from ssl3d.evaluate.statistics.measures import MEASURES
from ssl3d.tables.comparisons import short_names
from ssl3d.tables.entry import Key
from ssl3d.tables.formats.captions import by_table, caption, conclusion, remarks, versus
from ssl3d.tables.formats.markdown import PRICE, to_markdown
from ssl3d.tables.formats.texts import digits, price, shown

if TYPE_CHECKING:
    from rich.table import Table

    from ssl3d.tables.formats.summary import Titled

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
    "read-out",
)
_KEPT_WHOLE = frozenset({"protocol", "rank", "AUC", "kappa", "MAE", "group", "difference", "p"})


def show_leaderboard(leaderboard: pd.DataFrame, comparisons: pd.DataFrame, first: Sequence[Titled] = ()) -> None:
    """Print every table with its caption and conclusion, and the price; as Markdown if there is no terminal.

    Args:
        leaderboard: rows of all tables.
        comparisons: pairs of all tables.
        first: further tables that come first, such as the summary over tasks.
    """
    from rich.console import Console  # noqa: PLC0415  # only terminals need rich

    console = Console()
    if not console.is_terminal:
        console.file.write(to_markdown(leaderboard, comparisons, first))
        return
    for titled in first:
        console.print(titled_to_rich(titled))
    for board, pairs in by_table(leaderboard, comparisons):
        console.print(to_rich(board, pairs, console.width))
    cost = price_to_rich(leaderboard)
    if cost is not None:
        console.print(cost)


def show_comparisons(comparisons: pd.DataFrame) -> None:
    """Print one row per pair and metric: difference with interval, p corrected by Holm, and the verdict in words."""
    from rich.console import Console  # noqa: PLC0415  # only terminals need rich
    from rich.table import Table  # noqa: PLC0415

    console = Console(width=None if Console().is_terminal else 160)
    if comparisons.empty:
        console.print("There is no pair to compare: one method only, or none with a score.")
        return
    varied = [name for name in ("data", "task", "plane") if comparisons[name].nunique() > 1]
    varied += [name for name in ("label",) if comparisons[name].notna().any()]
    table = Table(*varied, "protocol", "metric", "A", "B", "A - B", "95% interval", "p", "p (Holm)", "verdict")
    rows = comparisons.to_dict("records")
    names = short_names({_key(row, side) for row in rows for side in "ab"})
    for row in rows:
        table.add_row(
            *(_plain("" if pd.isna(row[name]) else str(row[name])) for name in (*varied, "protocol")),
            MEASURES[str(row["metric"])].title,
            *(_plain(names[_key(row, side)]) for side in "ab"),
            digits(row["difference"], "+"),
            f"{digits(row['ci_low'], '+')} to {digits(row['ci_high'], '+')}",
            f"{row['p']:.3g}",
            f"{row['p_holm']:.3g}",
            _plain(str(row["verdict"])),
        )
    console.print(table)


def to_rich(leaderboard: pd.DataFrame, comparisons: pd.DataFrame, width: int) -> Table:
    """Return one table (see :func:`by_table`) for a terminal ``width`` characters wide.

    Columns that do not fit are only in the CSV.
    """
    from rich import box  # noqa: PLC0415  # only terminals need rich
    from rich.table import Table  # noqa: PLC0415

    table = _narrowed(shown(leaderboard), width)
    below = _plain(" ".join(filter(None, (remarks(leaderboard), versus(leaderboard), conclusion(comparisons)))))
    out = Table(
        title=_plain(caption(leaderboard)), caption=below, caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1)
    )
    for name in table.columns:
        out.add_column(name, no_wrap=name in _KEPT_WHOLE, overflow="fold")
    last = ""
    for row in table.to_dict("records"):
        if last and row["protocol"] != last:
            out.add_section()
        last = row["protocol"]
        out.add_row(*(_plain(text) for text in row.values()))
    return out


def titled_to_rich(titled: Titled) -> Table:
    """Return a further table for a terminal."""
    from rich import box  # noqa: PLC0415  # only terminals need rich
    from rich.table import Table  # noqa: PLC0415

    out = Table(*map(_plain, titled.table.columns), title=_plain(titled.title), box=box.SIMPLE_HEAD, padding=(0, 1))
    for row in titled.table.to_numpy().tolist():
        out.add_row(*map(_plain, row))
    return out


def price_to_rich(leaderboard: pd.DataFrame) -> Table | None:
    """Return the price for a terminal; None if nothing was measured."""
    from rich import box  # noqa: PLC0415  # only terminals need rich
    from rich.table import Table  # noqa: PLC0415

    cost = price(leaderboard)
    if cost.empty:
        return None
    out = Table(*map(_plain, cost.columns), title=PRICE, box=box.SIMPLE_HEAD, padding=(0, 1))
    for row in cost.to_numpy().tolist():
        out.add_row(*map(_plain, row))
    return out


def to_svg(leaderboard: pd.DataFrame, comparisons: pd.DataFrame, first: Sequence[Titled] = (), width: int = 130) -> str:
    """Return a picture of the output of a terminal ``width`` characters wide, without external references."""
    import io  # noqa: PLC0415
    import re  # noqa: PLC0415

    from rich.console import Console  # noqa: PLC0415  # only terminals and their pictures need rich

    console = Console(record=True, width=width, file=io.StringIO())
    for titled in first:
        console.print(titled_to_rich(titled))
    for board, pairs in by_table(leaderboard, comparisons):
        console.print(to_rich(board, pairs, width))
    cost = price_to_rich(leaderboard)
    if cost is not None:
        console.print(cost)
    drawn = console.export_svg(title="ssl3d leaderboard", unique_id="leaderboard")
    return re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)  # web fonts; the reader's own are sufficient


def _plain(text: str) -> str:
    """Return external text so that rich shows it unchanged and it cannot control the terminal."""
    from rich.markup import escape  # noqa: PLC0415  # only terminals need rich

    return escape(printable(text))


def _narrowed(table: pd.DataFrame, width: int) -> pd.DataFrame:
    """Drop columns, the least informative first, until a table of texts fits."""
    for name in _LEAVE_OUT:
        widths = [max(len(column), *map(len, table[column])) + 3 for column in table.columns]
        if sum(widths) <= width:
            break
        table = table.drop(columns=name, errors="ignore")
    return table


def _key(row: Mapping[Hashable, Any], side: str) -> Key:
    """Key of method "a" or "b" of a pair."""
    compared = ("" if pd.isna(row[name]) else str(row[name]) for name in ("data", "task", "plane", "protocol"))
    return Key(*compared, *(str(row[f"{name}_{side}"]) for name in ("method", "backbone", "settings")))

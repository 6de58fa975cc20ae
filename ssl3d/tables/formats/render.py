"""The leaderboard in the requested format. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import pandas as pd

from ssl3d.results.predictions import to_csv
from ssl3d.tables.formats.latex import to_latex
from ssl3d.tables.formats.markdown import to_markdown
from ssl3d.tables.formats.terminal import to_svg

if TYPE_CHECKING:
    from ssl3d.tables.formats.summary import Titled

Format = Literal["md", "latex", "csv", "svg"]


def render(leaderboard: pd.DataFrame, comparisons: pd.DataFrame, form: Format, first: Sequence[Titled] = ()) -> str:
    """Return the leaderboard as Markdown, LaTeX, CSV or SVG; all but CSV begin with further tables, ``first``."""
    if form == "csv":
        return to_csv(leaderboard)
    return {"md": to_markdown, "latex": to_latex, "svg": to_svg}[form](leaderboard, comparisons, first)

"""``ssl3d leaderboard``: the leaderboard of a run, computed from its records."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from ssl3d.cli.options import PATH


@click.command()
@click.argument("run", type=PATH)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "md", "csv", "latex", "svg"]),
    default="table",
    help="Form of the table.",
)
@click.option(
    "--baseline", metavar="NAME", help="Compare all with METHOD, or METHOD on BACKBONE; p is corrected for that."
)
def leaderboard(run: Path, form: Literal["table", "md", "csv", "latex", "svg"], baseline: str | None) -> None:
    """Print the leaderboard of a run, and what pretraining cost."""
    from ssl3d.results.read import read_results  # noqa: PLC0415  # help must not wait for pandas
    from ssl3d.tables.baseline import against  # noqa: PLC0415
    from ssl3d.tables.formats.render import render  # noqa: PLC0415
    from ssl3d.tables.formats.summary import overview  # noqa: PLC0415
    from ssl3d.tables.formats.terminal import show_leaderboard  # noqa: PLC0415
    from ssl3d.tables.tables import Tables, require_results  # noqa: PLC0415

    tables = Tables(require_results(read_results(run), run))
    board, pairs = tables.leaderboard, tables.comparisons
    if baseline is not None:
        board = against(board, pairs, baseline)
    if form == "table":
        show_leaderboard(board, pairs, overview(tables))
    else:
        click.echo(render(board, pairs, form, overview(tables)))

"""``ssl3d leaderboard``, ``compare`` and ``export``: the tables of runs, made again from their results."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from ssl3d.tables.entries import Finished, Results

RUN = click.Path(path_type=Path)


@click.command()
@click.argument("run", type=RUN)
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
    from ssl3d.tables.baseline import against  # noqa: PLC0415  # help must not wait for pandas
    from ssl3d.tables.comparisons import comparisons  # noqa: PLC0415
    from ssl3d.tables.leaderboard import leaderboard as table  # noqa: PLC0415
    from ssl3d.tables.render import render  # noqa: PLC0415

    results = _results([run])
    board, pairs = table(results), comparisons(results)
    if baseline is not None:
        board = against(board, pairs, baseline)
    if form != "table":
        click.echo(render(board, pairs, form))
        return
    from ssl3d.cli.show_table import show_leaderboard  # noqa: PLC0415

    show_leaderboard(board, pairs)


@click.command()
@click.argument("runs", type=RUN, nargs=-1, required=True)
def compare(runs: tuple[Path, ...]) -> None:
    """Compare methods in pairs, within a run or across runs on the same data.

    Runs on other data, another task, split or protocol are not comparable, and it says why.
    """
    from ssl3d.cli.show_table import show_comparisons  # noqa: PLC0415
    from ssl3d.errors import RunError  # noqa: PLC0415
    from ssl3d.tables.comparable import check_comparable, check_shared  # noqa: PLC0415
    from ssl3d.tables.comparisons import comparisons  # noqa: PLC0415

    results = {run: _results([run]) for run in runs}
    cells = {run: [cell for cell, _ in found] for run, found in results.items()}
    named = runs
    try:
        for named in combinations(cells, 2):
            check_comparable([cell for run in named for cell in cells[run]])
        named = runs
        check_shared(list(cells.values()))
        pairs = comparisons([finished for found in results.values() for finished in found])
    except RunError as error:
        raise RunError(f"{' and '.join(map(str, named))}: {error}") from None
    show_comparisons(pairs)


def _print_columns(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print what every column of every CSV holds, and leave."""
    if not asked:
        return
    from ssl3d.tables.dictionary import document  # noqa: PLC0415  # help must not wait for pandas

    click.echo(document(), nl=False)
    ctx.exit()


@click.command()
@click.option(
    "--columns",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_columns,
    help="Print what every column of every CSV holds, as Markdown.",
)
@click.argument("run", type=RUN)
@click.option("--to", "target", type=RUN, required=True, help="CSV file: one row a cell and protocol.")
@click.option("--pairs", type=RUN, help="CSV file: one row a pair of methods.  [default: beside it, *-pairs.csv]")
def export(run: Path, target: Path, pairs: Path | None) -> None:
    """Write comparison CSVs of a run: one row a cell, and one row a pair of methods."""
    from ssl3d.results.files import write_atomic  # noqa: PLC0415
    from ssl3d.tables.comparisons import comparisons  # noqa: PLC0415
    from ssl3d.tables.leaderboard import cells  # noqa: PLC0415
    from ssl3d.tables.render import to_csv  # noqa: PLC0415

    results = _results([run])
    pairs = pairs or target.with_name(f"{target.stem}-pairs.csv")
    for path, table in ((target, cells(results)), (pairs, comparisons(results))):
        write_atomic(path, to_csv(table))
        click.echo(f"{path}: {len(table)} rows")


def _results(runs: tuple[Path, ...] | list[Path]) -> Results:
    """Results of all cells of runs; raises RunError where one is no run, or has none."""
    from ssl3d.errors import RunError  # noqa: PLC0415
    from ssl3d.results.folder import cells_folder, require_run  # noqa: PLC0415
    from ssl3d.tables.combine_planes import read_run  # noqa: PLC0415

    found: list[Finished] = []
    for run in runs:
        require_run(run)
        results = read_run(cells_folder(run))
        if not results:
            raise RunError(f"{run} has no result yet; run its `ssl3d bench` command to the end")
        found += results
    return found

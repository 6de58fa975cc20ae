"""``ssl3d export``: a run's evaluations and comparisons as CSV files."""

from __future__ import annotations

from pathlib import Path

import click

from ssl3d.cli.options import PATH


def _print_columns(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print the meaning of every column of every CSV, and exit."""
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
    help="Print the meaning of every column of every CSV, as Markdown.",
)
@click.argument("run", type=PATH)
@click.option("--to", "target", type=PATH, required=True, help="CSV file: one row per evaluation.")
@click.option(
    "--pairs",
    type=PATH,
    help="CSV file: one row per pair of methods.  [default: beside it, *-pairs.csv]",
)
def export(run: Path, target: Path, pairs: Path | None) -> None:
    """Write CSV files of a run: one row per evaluation, and one row per pair of methods."""
    from ssl3d.files import write_atomic  # noqa: PLC0415  # help must not wait for pandas
    from ssl3d.results.predictions import to_csv  # noqa: PLC0415
    from ssl3d.results.read import read_results  # noqa: PLC0415
    from ssl3d.tables.tables import Tables, require_results  # noqa: PLC0415

    tables = Tables(require_results(read_results(run), run))
    pairs = pairs or target.with_name(f"{target.stem}-pairs.csv")
    for path, table in ((target, tables.evaluations), (pairs, tables.comparisons)):
        write_atomic(path, to_csv(table))
        click.echo(f"{path}: {len(table)} rows")

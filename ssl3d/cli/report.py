"""``ssl3d report``: the page of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ssl3d.cli.options import PATH

VOLUMES = click.option(
    "--volumes/--no-volumes",
    default=True,
    help="Show slices of volumes; a data set's terms may forbid passing them on.  [default: shown]",
)

ALLOW_CODE = click.option("--allow-code", is_flag=True, help="Run plugins that the run names by file or module.")


@click.command()
@click.argument("run", type=PATH)
@click.option("--out", type=PATH, help="File to write.  [default: report.html in the run's folder]")
@VOLUMES
@ALLOW_CODE
def report(run: Path, out: Path | None, volumes: bool, allow_code: bool) -> None:
    """Write a run's report: one HTML file with tables, figures and doubts, that opens offline."""
    from ssl3d.report.page import write_report  # noqa: PLC0415  # help must not wait for matplotlib

    with announced() as announce:
        path = write_report(run, out, volumes, announce, allow_code)
    click.echo(path)


@contextmanager
def announced() -> Iterator[Callable[[str], None]]:
    """Show the section drawn last in a terminal; yield a function that takes its title."""
    from rich.console import Console  # noqa: PLC0415  # help must not wait for it
    from rich.markup import escape  # noqa: PLC0415

    with Console(stderr=True).status("Reading the run") as status:
        yield lambda title: status.update(f"Drawn: {escape(title)}")

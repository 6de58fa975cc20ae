"""``ssl3d report`` and ``ssl3d plot``: the page of a run, and its figures as files."""

from __future__ import annotations

from pathlib import Path

import click

from ssl3d.cli.bench import FOLDER, Listed

VOLUMES = click.option(
    "--volumes/--no-volumes",
    default=True,
    help="Show slices of volumes; a data set's terms may forbid passing them on.  [default: shown]",
)


class Formats(Listed):
    """A comma-separated list of file formats."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Split at commas, and check each name."""
        names = super().convert(value, param, ctx)
        unknown = [name for name in names if name not in {"png", "svg"}]
        if unknown:
            self.fail(
                f"{unknown[0]!r} is not a format that figures are written in; choose png, svg or both", param, ctx
            )
        return tuple(dict.fromkeys(names))


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--out", type=FOLDER, help="File to write.  [default: report.html in the run's folder]")
@VOLUMES
def report(run: Path, out: Path | None, volumes: bool) -> None:
    """Write a run's report: one HTML file with tables, figures and doubts, that opens offline."""
    from ssl3d.report.page import write_report  # noqa: PLC0415  # help must not wait for matplotlib

    click.echo(write_report(run, out, volumes))


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--out", type=FOLDER, help="Folder to write to.  [default: figures in the run's folder]")
@click.option(
    "--format", "formats", type=Formats("png,svg"), default="png,svg", show_default=True, help="png, svg or both."
)
@VOLUMES
def plot(run: Path, out: Path | None, formats: tuple[str, ...], volumes: bool) -> None:
    """Write each figure of a run's report as PNG (300 dots an inch) and SVG."""
    from ssl3d.report.figures import write_figures  # noqa: PLC0415  # help must not wait for matplotlib

    files, notes = write_figures(run, out, formats, volumes)
    for file in files:
        click.echo(file)
    for note in notes:
        click.echo(note, err=True)

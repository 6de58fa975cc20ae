"""``ssl3d plot``: the figures of a run as files."""

from __future__ import annotations

from pathlib import Path

import click

from ssl3d.cli.options import PATH
from ssl3d.cli.report import ALLOW_CODE, VOLUMES, announced
from ssl3d.errors import printable


class Formats(click.ParamType[tuple[str, ...]]):
    """A comma-separated list of file formats."""

    name = "png,svg"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Split at commas, and check each name."""
        names = tuple(dict.fromkeys(part.strip() for part in str(value).split(",") if part.strip()))
        unknown = [name for name in names if name not in {"png", "svg"}]
        if unknown or not names:
            wrong = unknown[0] if unknown else str(value)
            self.fail(f"{wrong!r} is not a format that figures are written in; choose png, svg or both", param, ctx)
        return names


@click.command()
@click.argument("run", type=PATH)
@click.option("--out", type=PATH, help="Folder to write to.  [default: figures in the run's folder]")
@click.option("--format", "formats", type=Formats(), default="png,svg", show_default=True, help="png, svg or both.")
@VOLUMES
@ALLOW_CODE
def plot(run: Path, out: Path | None, formats: tuple[str, ...], volumes: bool, allow_code: bool) -> None:
    """Write each figure of a run's report as PNG (300 dots per inch) and SVG."""
    from ssl3d.report.figures import write_figures  # noqa: PLC0415  # help must not wait for matplotlib

    with announced() as announce:
        files, notes = write_figures(run, out, formats, volumes, announce, allow_code=allow_code)
    for file in files:
        click.echo(file)
    for note in notes:
        click.echo(printable(note), err=True)

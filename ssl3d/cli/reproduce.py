"""``ssl3d reproduce``: whether an encoder or evaluation gives the same numbers when it is made again."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from ssl3d.cli.options import PATH, Root
from ssl3d.errors import printable


@click.command()
@click.argument("folder", type=PATH, metavar="ENCODER|EVALUATION")
@click.option("--out", type=PATH, help="Folder to make it in.  [default: reproduce-NAME, beside the run]")
@click.option("--root", "roots", type=Root(), multiple=True, help="Folder of a data set's files.  [default: the run's]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--weights", type=PATH, help="The weights that the encoder started from, where they lie elsewhere now.")
@click.option("--allow-code", is_flag=True, help="Run plugins that the records name by file or module.")
@click.option("--quiet", is_flag=True, help="Print nothing but the comparison and errors.")
def reproduce(
    *,
    folder: Path,
    out: Path | None,
    roots: tuple[tuple[str, Path], ...],
    device: str,
    weights: Path | None,
    allow_code: bool,
    quiet: bool,
) -> int:
    """Make an encoder or an evaluation again from its record, and report whether its numbers are the same.

    The recipe is the recorded one, and so is what was found by trial (micro-batch, precision, layout). The encoder is
    pretrained again. Interrupted, the same command goes on. Compared are the encoder's weights, the predictions and
    the scores, to the bit; and versions, sources, hardware and data, which may explain a difference. The exit code is 1
    if something differs.
    """
    from rich.console import Console  # noqa: PLC0415  # help must not wait for torch

    from ssl3d.audit.reproduce import reproduce as make_again  # noqa: PLC0415
    from ssl3d.cli.progress import BarProgress, progress_for  # noqa: PLC0415
    from ssl3d.run.options import Options  # noqa: PLC0415

    options = Options(roots=dict(roots), out=out, cache=None, device=device, weights=weights)
    with ExitStack() as stack:
        progress = progress_for(Console(), quiet=quiet, as_json=False)
        if isinstance(progress, BarProgress):
            stack.enter_context(progress)
        found = make_again(folder, options, progress, allow_code)
    if found.reason is not None:
        click.echo(printable(f"{found.name}: failed this time: {found.reason}"))
    for part in found.parts:
        click.echo(printable(f"{found.name}, {part}"))
    for text in found.circumstances:
        click.echo(printable(f"  {text}"))
    click.echo(f"{found.name}: {'reproduced' if found.same else 'not reproduced'}, made again in {found.folder}")
    return 0 if found.same else 1

"""Running a cell again in front of a person."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console

from ssl3d.audit.reproduce import reproduce
from ssl3d.cli.progress import BarProgress, progress_for
from ssl3d.run.options import Options


def reproduce_and_show(cell: Path, options: Options, *, quiet: bool = False) -> int:
    """Run a cell again and print what came of it; return the exit code: 0 the same, 1 not.

    Raises:
        UserError: it cannot be run again.
    """
    with ExitStack() as stack:
        progress = progress_for(Console(), quiet=quiet, as_json=False)
        if isinstance(progress, BarProgress):
            stack.enter_context(progress)
        found = reproduce(cell, options, progress)
    if found.reason is not None:
        click.echo(f"{found.cell}: failed this time: {found.reason}")
    for part in found.parts:
        click.echo(f"{found.cell}, {part}")
    for text in (*found.circumstances, *found.notes):
        click.echo(f"  {text}")
    click.echo(f"{found.cell}: {'reproduced' if found.same else 'not reproduced'}, run again in {found.folder}")
    return 0 if found.same else 1

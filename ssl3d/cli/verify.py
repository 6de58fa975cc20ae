"""``ssl3d verify``: whether a run's files agree with each other."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ssl3d.cli.options import PATH
from ssl3d.errors import printable


@click.command()
@click.argument("folders", type=PATH, nargs=-1, required=True, metavar="RUN|ENCODER|EVALUATION...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per folder.")
def verify(folders: tuple[Path, ...], as_json: bool) -> int:
    """Check that the files of runs agree with their records, and tables with both.

    Every score and interval is computed again from predictions.csv, every table from the records; files are compared
    with their hashes, keys with what they are made of, and evaluations with the encoder that was evaluated. One line
    per artifact and table: "same", or what differs. The exit code is 1 if something differs. Nothing is written, and
    nothing is trained; `ssl3d reproduce` does that.
    """
    from ssl3d.audit.verify import verify as check  # noqa: PLC0415  # help must not wait for pandas

    sound = True
    for folder in folders:
        verdicts = []
        for verdict in check(folder):
            verdicts.append(verdict)
            if not as_json:
                click.echo(printable(verdict.line(), keep="\n"))
        same = all(verdict.sound for verdict in verdicts)
        sound = sound and same
        if as_json:
            checked = [verdict.json() for verdict in verdicts]
            click.echo(json.dumps({"folder": str(folder), "same": same, "checked": checked}))
    return 0 if sound else 1

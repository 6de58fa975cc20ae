"""``ssl3d verify`` and ``reproduce``: whether a run's files can be believed, and whether its numbers come again."""

from __future__ import annotations

import json
from pathlib import Path

import click

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("runs", type=FOLDER, nargs=-1, required=True, metavar="RUN|CELL...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a run or cell.")
def verify(runs: tuple[Path, ...], as_json: bool) -> int:
    """Check that a run's files say what its predictions give.

    Every score, interval and curve point is computed again from predictions.csv, every table from the results, and
    files are held against their hashes. One line a cell and table: "same", or what differs. The exit code is 1 if
    something differs. Nothing is written, and nothing is trained; `ssl3d reproduce` does that.
    """
    from ssl3d.runs.verify import verify as check  # noqa: PLC0415  # help must not wait for pandas

    sound = True
    for run in runs:
        verdicts = check(run)
        sound = sound and all(verdict.sound for verdict in verdicts)
        if as_json:
            found = {"folder": str(run), "same": all(verdict.sound for verdict in verdicts)}
            click.echo(json.dumps({**found, "checked": [verdict.json() for verdict in verdicts]}))
            continue
        for verdict in verdicts:
            click.echo(verdict.line())
    return 0 if sound else 1

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
    from ssl3d.audit.verify import verify as check  # noqa: PLC0415  # help must not wait for pandas

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


@click.command()
@click.argument("cell", type=FOLDER, metavar="RUN/cells/CELL")
@click.option("--out", type=FOLDER, help="Folder to run it in.  [default: reproduce-CELL, beside the run]")
@click.option("--root", type=FOLDER, help="Folder of the data set's files.  [default: the run's]")
@click.option("--store", type=FOLDER, help="Folder of packed volumes, shared by runs.  [default: in the new folder]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--weights", type=FOLDER, help="Local file of pretrained weights, where the cell started from one.")
@click.option("--quiet", is_flag=True, help="Print nothing but the comparison and errors.")
def reproduce(
    *,
    cell: Path,
    out: Path | None,
    root: Path | None,
    store: Path | None,
    device: str,
    weights: Path | None,
    quiet: bool,
) -> int:
    """Run a cell again from its own record, and say whether its numbers come out the same.

    The recipe is the recorded one, and so is what was found by trial (micro-batch, precision, layout). The encoder is
    pretrained anew. Interrupted, the same command goes on. Compared are the encoder's weights, the predictions and the
    scores, to the bit; and versions, hardware and data, which explain a difference. The exit code is 1 if something
    differs.
    """
    from ssl3d.cli.show_again import reproduce_and_show  # noqa: PLC0415  # help must not wait for torch
    from ssl3d.run.options import Options  # noqa: PLC0415

    options = Options(root=root, out=out, store=store, device=device, weights=weights)
    return reproduce_and_show(cell, options, quiet=quiet)

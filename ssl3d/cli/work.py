"""``ssl3d work``: one of any number of workers on a planned run."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import click

from ssl3d.cli.options import PATH
from ssl3d.errors import printable


@click.command()
@click.argument("run", type=PATH, metavar="RUN")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--devices", type=int, default=1, show_default=True, help="Processes that share every effective batch.")
@click.option("--weights", type=PATH, help="Local file of pretrained weights, if the run was started with one.")
@click.option("--wait/--no-wait", default=True, help="Wait for what others make (default), or end when they hold it.")
@click.option("--retry", is_flag=True, help="Try again what has failed.")
@click.option(
    "--tables/--no-tables", default=True, help="Write the tables at the end (default), or leave it to others."
)
@click.option("--allow-code", is_flag=True, help="Run plugins that plan.json names by file or module.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def work(
    *,
    run: Path,
    device: str,
    devices: int,
    weights: Path | None,
    wait: bool,
    retry: bool,
    tables: bool,
    allow_code: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Make whatever of a run is ready, until nothing is left.

    `ssl3d bench` plans a run and packs its volumes. From then on any number of workers share it, on one machine or on
    several that see the folder, each on its own device. Each artifact is made once, under a lease: what a dead worker
    held is taken over, from its last checkpoint. Interrupted, a worker leaves a checkpoint for the others. What has
    failed is not tried again, nor what depends on it. The exit code is 1 if something failed.
    """
    from rich.console import Console  # noqa: PLC0415  # help must not wait for torch

    from ssl3d.cli.progress import BarProgress, progress_for  # noqa: PLC0415
    from ssl3d.run.options import Options  # noqa: PLC0415
    from ssl3d.run.rank import leads  # noqa: PLC0415
    from ssl3d.run.work import WorkOptions  # noqa: PLC0415
    from ssl3d.run.work import work as take_part  # noqa: PLC0415

    options = Options(device=device, devices=devices, weights=weights)
    behaviour = WorkOptions(wait=wait, retry=retry, tables=tables, allow_code=allow_code)
    with ExitStack() as stack:
        progress = progress_for(Console(), quiet=quiet or not leads(), as_json=as_json)
        if isinstance(progress, BarProgress):
            stack.enter_context(progress)
        outcome = take_part(run, options, behaviour, progress)
    if not leads():
        return 0  # the first process reports
    if as_json:
        click.echo(json.dumps({"event": "worked", "failures": outcome.failures}))
    for artifact, reason in outcome.failures.items() if not as_json else ():
        print(printable(f"failed: {artifact}: {reason}"), file=sys.stderr)  # noqa: T201  # the command's output
    return 1 if outcome.failures else 0

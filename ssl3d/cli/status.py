"""``ssl3d status``: what of a run is done, running, waiting or failed, and what it costs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssl3d.cli.options import PATH
from ssl3d.errors import printable

if TYPE_CHECKING:
    from ssl3d.run.status import Running, Status

WATCH_SECONDS = 2.0  # between two looks: owners write every five
MOST = 20  # failures that are listed


@click.command()
@click.argument("run", type=PATH, metavar="RUN")
@click.option("--watch", is_flag=True, help="Show it again every two seconds, until nothing is left to make.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (one per line with --watch).")
def status(*, run: Path, watch: bool, as_json: bool) -> None:
    """Show what of a run is done, running, waiting or failed, and what it has cost.

    It reads the plan, the records and the leases, from any machine that sees the folder, and starts nothing. Features
    are not counted. The time left is that of similar artifacts that are done, on one worker.
    """
    from ssl3d.run.status import read_status  # noqa: PLC0415  # help must not wait for pandas

    while True:
        found = read_status(run)
        if as_json:
            click.echo(json.dumps(_plain(found)))
        else:
            if watch:
                click.clear()  # does nothing unless the output is a terminal
            click.echo("\n".join(printable(line) for line in lines(found)))
        if not watch or not found.waiting:
            return
        time.sleep(WATCH_SECONDS)


def lines(found: Status) -> Iterator[str]:
    """Yield the state of a run in lines."""
    counts = [f"{found.done.get(kind, 0)} of {number} {kind} done" for kind, number in found.planned.items()]
    yield f"{found.folder}: {', '.join(counts) or 'nothing planned yet'}"
    failed = f", {len(found.failed)} failed and {found.dependants} depend on them" if found.failed else ""
    yield f"{found.waiting} to make{failed}; workers: {found.workers}"
    for one in found.running:
        yield f"  running: {one.label}{_doing(one)} ({_where(one)})"
    for label, reason in list(found.failed.items())[:MOST]:
        yield f"  failed: {label}: {reason}"
    if len(found.failed) > MOST:
        yield f"  and {len(found.failed) - MOST} more failures; --json lists all"
    to_come = f", about {duration(found.to_come)} left on one worker" if found.to_come is not None else ""
    unknown = f", and {found.unknown} artifacts of unknown cost" if found.unknown else ""
    yield f"spent: {duration(found.spent)}{to_come}{unknown}"


def duration(seconds: float) -> str:
    """Return a time in words: "45 s", "12 min", "3.4 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _doing(one: Running) -> str:
    """Return the current part: ", pretraining, 120 of 600 steps, 4 min left"."""
    doing = one.doing
    if "phase" not in doing:
        return ""
    left = doing.get("left")
    done = f", {doing.get('done')} of {doing.get('total')} {doing.get('unit')}"
    return f", {doing['phase']}{done}{'' if left is None else f', {duration(left)} left'}"


def _where(one: Running) -> str:
    dead = "; it has ended; the next worker resumes it" if one.alive is False else ""
    return f"{one.host or 'unknown'}, process {one.pid}{dead}"


def _plain(found: Status) -> dict[str, object]:
    return {**asdict(found), "folder": str(found.folder), "waiting": found.waiting}

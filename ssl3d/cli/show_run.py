"""Running an experiment in front of a person or a program."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ssl3d.cli.progress import BarProgress, counted, progress_for
from ssl3d.cli.show_table import show_leaderboard
from ssl3d.errors import UserError
from ssl3d.experiment import Experiment
from ssl3d.results.folder import cells_folder, default_folder
from ssl3d.run.estimate import estimates
from ssl3d.run.execute import Outcome, execute
from ssl3d.run.options import Options
from ssl3d.run.plan import Plan, make_plan
from ssl3d.run.preflight import check_inputs
from ssl3d.run.rank import leads
from ssl3d.tables.combine_planes import read_run
from ssl3d.tables.comparisons import comparisons
from ssl3d.tables.leaderboard import leaderboard


def run_and_show(
    experiment: Experiment, options: Options, *, dry_run: bool = False, quiet: bool = False, as_json: bool = False
) -> int:
    """Run an experiment; return the exit code: 0, or 1 if cells failed.

    Raises:
        UserError: bad input; nothing was run.
    """
    plan = make_plan(experiment, options.root, options.weights)
    if dry_run:
        return _show_estimate(plan, options, as_json)
    console = Console(stderr=False)
    with ExitStack() as stack:
        progress = progress_for(console, quiet=quiet or not leads(), as_json=as_json)
        if isinstance(progress, BarProgress):
            stack.enter_context(progress)
        if plan.dataset.synthetic:
            progress.note(f"{plan.dataset.name}: generated, synthetic volumes; scores say nothing about real data")
        outcome = execute(plan, options, progress)
    if not leads():
        return 0  # the first process says how it went
    _show_tables(outcome, as_json)
    for cell, reason in outcome.failures.items():
        print(f"failed: {cell}: {reason}", file=sys.stderr)  # noqa: T201  # the command's output
    return 1 if outcome.failures else 0


def _show_tables(outcome: Outcome, as_json: bool) -> None:
    results = read_run(cells_folder(outcome.folder))
    board, pairs = leaderboard(results), comparisons(results)
    report = _report(outcome.folder)
    if as_json:
        rows = json.loads(board.to_json(orient="records"))
        line = {"event": "leaderboard", "folder": str(outcome.folder), "rows": rows, "report": report}
        print(json.dumps(line))  # noqa: T201
        return
    show_leaderboard(board, pairs)
    print(f"Tables: {outcome.folder}/leaderboard.csv, leaderboard.md, comparisons.csv, cells.csv")  # noqa: T201
    print(f"Report: {report}")  # noqa: T201


def _report(folder: Path) -> str:
    """Write the report and say where it is, or why there is none: the tables stand without it."""
    from ssl3d.report.page import write_report  # noqa: PLC0415  # a dry run draws nothing

    try:
        return str(write_report(folder))
    except UserError as error:
        return f"not written: {error}"


def _show_estimate(plan: Plan, options: Options, as_json: bool) -> int:
    check_inputs(plan, options)
    run = options.out or default_folder(plan.experiment, options.root)
    rows = estimates(plan, run, options)
    if as_json:
        print(json.dumps({"event": "plan", "folder": str(run), "cells": rows}))  # noqa: T201
        return 0
    console = Console(width=None if sys.stdout.isatty() else 160)
    shown = Table("cell", "steps", "TFLOP", "time", "", title=f"{counted(rows)}, to be written to {run}")
    for row in rows:
        cost = (f"{row['steps']}", f"{row['tflop']:.3g}", f"{row['minutes']:.1f} min") if row["steps"] else ("", "", "")
        shown.add_row(row["cell"], *cost, row["note"])
    console.print(shown)
    total = sum(row["minutes"] for row in rows)
    if plan.dataset.synthetic:
        console.print(f"{plan.dataset.name}: generated, synthetic volumes.")
    console.print(f"About {total:.0f} minutes of arithmetic on this machine; making views and judging come on top.")
    console.print("Nothing was run.")
    return 0

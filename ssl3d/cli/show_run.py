"""Running for a person or a program: progress, leaderboard, or the estimated cost."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ssl3d.cli.progress import BarProgress, counted, plain, progress_for
from ssl3d.errors import UserError, printable
from ssl3d.experiment import Experiment
from ssl3d.results.folder import REPORT, TABLES
from ssl3d.results.read import read_results
from ssl3d.run.execute import RunResult, execute
from ssl3d.run.options import Options
from ssl3d.run.planning.estimate import estimates, run_folder
from ssl3d.run.planning.fit import planned_misfits
from ssl3d.run.planning.plan import Plan, make_plan
from ssl3d.run.planning.preflight import check_inputs
from ssl3d.run.rank import leads
from ssl3d.tables.columns import grid
from ssl3d.tables.formats.summary import overview
from ssl3d.tables.formats.terminal import show_leaderboard
from ssl3d.tables.formats.tuned import tuned
from ssl3d.tables.tables import Tables


def run_and_show(
    experiment: Experiment,
    options: Options,
    *,
    report: bool = True,
    dry_run: bool = False,
    quiet: bool = False,
    as_json: bool = False,
) -> int:
    """Run an experiment; return the exit code: 0, or 1 if artifacts failed.

    Raises:
        UserError: bad input; nothing was run.
    """
    plan = make_plan(experiment, options)
    if dry_run:
        return _show_estimate(plan, options, as_json)
    with ExitStack() as stack:
        progress = progress_for(Console(stderr=False), quiet=quiet or not leads(), as_json=as_json)
        if isinstance(progress, BarProgress):
            stack.enter_context(progress)
        outcome = execute(plan, options, progress)
    if not leads():
        return 0  # the first process reports
    if options.jobs == 0:
        return _show_planned(outcome, as_json)
    _show_tables(outcome, report, as_json)
    for artifact, reason in outcome.failures.items():
        print(printable(f"failed: {artifact}: {reason}"), file=sys.stderr)  # noqa: T201  # the command's output
    return 1 if outcome.failures else 0


def _show_planned(outcome: RunResult, as_json: bool) -> int:
    command = f"ssl3d work {shlex.quote(str(outcome.folder))}"
    line = {"event": "planned", "folder": str(outcome.folder), "command": command}
    print(json.dumps(line) if as_json else printable(f"Planned and packed. Start any number of workers: {command}"))  # noqa: T201
    return 0


def _show_tables(outcome: RunResult, report: bool, as_json: bool) -> None:
    tables = Tables(read_results(outcome.folder))
    written = _report(outcome.folder) if report else None
    if as_json:
        rows = json.loads(tables.leaderboard.to_json(orient="records"))
        line = {"event": "leaderboard", "folder": str(outcome.folder), "rows": rows, "report": written}
        print(json.dumps(line))  # noqa: T201
        return
    show_leaderboard(tables.leaderboard, tables.comparisons, overview(tables))
    names = ", ".join(name for name in TABLES if name != REPORT and (outcome.folder / name).is_file())
    print(printable(f"Tables: {outcome.folder}/{names}"))  # noqa: T201
    if written is not None:
        print(printable(f"Report: {written}"))  # noqa: T201


def _report(folder: Path) -> str:
    """Write the report and return where it is, or why there is none; the tables do not depend on it."""
    from ssl3d.report.page import write_report  # noqa: PLC0415  # a dry run draws nothing

    try:
        return str(write_report(folder))
    except UserError as error:
        return f"not written: {error}"


def _tuned(plan: Plan) -> str:
    """Return the sentence that will stand under the tables."""
    recipes = [request.recipe for request in plan.requests]
    return tuned({one.method: grid(one.pretrain.tune_lr) for one in recipes if one.pretrain is not None}, planned=True)


def _show_estimate(plan: Plan, options: Options, as_json: bool) -> int:
    check_inputs(plan, options, fetch=False)
    run = run_folder(plan, options).path
    rows = estimates(plan, options)
    if as_json:
        line = {"event": "plan", "folder": str(run), "encoders": rows, "tuned": _tuned(plan)}
        print(json.dumps(line))  # noqa: T201
        return 0
    console = Console(width=None if sys.stdout.isatty() else 160)
    evaluations = sum(row["evaluations"] for row in rows)
    title = f"{counted(rows, 'encoder')} and {evaluations} evaluations with all labels, to be written to {run}"
    shown = Table("encoder", "evaluations", "steps", "TFLOP", "time", "", title=plain(title))
    for row in rows:
        cost = (f"{row['steps']}", f"{row['tflop']:.3g}", f"{row['minutes']:.1f} min") if row["steps"] else ("", "", "")
        shown.add_row(plain(row["encoder"]), str(row["evaluations"]), *cost, plain(row["note"]))
    console.print(shown)
    for note in (*plan.notes, *planned_misfits(plan), _tuned(plan)):
        console.print(plain(note))
    total = sum(row["minutes"] for row in rows)
    console.print(f"About {total:.0f} minutes of arithmetic on this machine; making views and evaluations come on top.")
    console.print("Nothing was run.")
    return 0

"""``ssl3d bench --launcher``: plan and pack here, and submit workers to a cluster."""

from __future__ import annotations

import json
import shlex
from contextlib import ExitStack
from dataclasses import replace

import click
from rich.console import Console

from ssl3d.cli.progress import BarProgress, counted, progress_for
from ssl3d.cli.show_run import run_and_show
from ssl3d.errors import RecipeError, printable
from ssl3d.experiment import Experiment
from ssl3d.run.execute import execute
from ssl3d.run.launch.command import code_allowed, names_code, worker_command
from ssl3d.run.launch.settings import LauncherSettings
from ssl3d.run.launch.slurm import check_slurm, parameters, submit
from ssl3d.run.options import Options
from ssl3d.run.planning.estimate import run_folder
from ssl3d.run.planning.plan import Plan, make_plan


def launch_and_show(
    experiment: Experiment,
    options: Options,
    launcher: str,
    settings: LauncherSettings,
    *,
    dry_run: bool = False,
    quiet: bool = False,
    as_json: bool = False,
) -> int:
    """Plan and pack a run, submit ``options.jobs`` workers, and say how to follow them; return the exit code.

    Raises:
        UserError: bad input, or the cluster refuses the workers.
    """
    if options.jobs < 1:
        raise RecipeError(f"--launcher {launcher} with --jobs {options.jobs}: at least one worker is needed")
    if options.devices != 1:
        raise RecipeError("--launcher and --devices cannot be combined: workers take an artifact each")
    plan = make_plan(experiment, options)
    if dry_run:
        run_and_show(experiment, replace(options, jobs=0), dry_run=True, as_json=as_json)
        return _show_submission(plan, options, launcher, settings, as_json)
    check_slurm()
    with ExitStack() as stack:
        progress = progress_for(Console(), quiet=quiet, as_json=as_json)
        if isinstance(progress, BarProgress):
            stack.enter_context(progress)
        run = execute(plan, replace(options, jobs=0), progress).folder
    command = worker_command(run, options, options.device, allow_code=code_allowed(plan, run))
    jobs = submit(run, command, options.jobs, settings)
    if as_json:
        click.echo(json.dumps({"event": "submitted", "folder": str(run), "jobs": jobs}))
    else:
        name = shlex.quote(str(run))
        click.echo(printable(f"{counted(jobs, 'worker')} submitted: {', '.join(jobs)}; logs: {run}/logs"))
        click.echo(printable(f"Follow them: ssl3d status {name} --watch; the tables then: ssl3d leaderboard {name}"))
    return 0


def _show_submission(plan: Plan, options: Options, launcher: str, settings: LauncherSettings, as_json: bool) -> int:
    """Print what would be submitted."""
    given, run = parameters(settings), run_folder(plan, options).path
    command = shlex.join(worker_command(run, options, options.device, allow_code=names_code(plan)))
    if as_json:
        line = {"event": "submission", "launcher": launcher, "jobs": options.jobs, "command": command, **given}
        click.echo(json.dumps(line))
        return 0
    click.echo(printable(f"{options.jobs} x {command}"))
    for name, value in given.items():
        click.echo(printable(f"  {name}: {value}"))
    click.echo("Nothing was submitted.")
    return 0

"""The command line: thin click commands, loaded when called, so that help and lists are fast."""

from __future__ import annotations

import errno
import importlib
import sys
from typing import Any

import click

from ssl3d.cli.pipe import CLOSED, prepare, silence
from ssl3d.errors import UserError

COMMANDS = {
    "bench": ("ssl3d.cli.bench:bench", "Pretrain methods, evaluate them, write leaderboard tables."),
    "work": ("ssl3d.cli.work:work", "Take part in a run, as one of several workers."),
    "status": ("ssl3d.cli.status:status", "Show what of a run is done, running, waiting or failed."),
    "list": ("ssl3d.cli.list:list_plugins", "List methods, backbones, data sets and protocols."),
    "show": ("ssl3d.cli.show:show", "Show a plugin's card and settings."),
    "check": ("ssl3d.cli.check:check", "Check that a plugin keeps its contract."),
    "leaderboard": ("ssl3d.cli.leaderboard:leaderboard", "Print the leaderboard of a run."),
    "compare": ("ssl3d.cli.compare:compare", "Compare the methods of runs in pairs."),
    "export": ("ssl3d.cli.export:export", "Write comparison CSVs of a run."),
    "report": ("ssl3d.cli.report:report", "Write a run's report: one HTML file."),
    "plot": ("ssl3d.cli.plot:plot", "Write a run's figures as PNG and SVG."),
    "verify": ("ssl3d.cli.verify:verify", "Check that scores and tables follow from the predictions."),
    "reproduce": ("ssl3d.cli.reproduce:reproduce", "Make an artifact again from its record, and compare."),
    "data": ("ssl3d.cli.data:data", "Check, pack or generate data."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and first lines, and imports a command only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Return the commands in the order people need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; exit quietly if nobody reads its output any more."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, not at exit, where it would be an error
        except BrokenPipeError:
            silence(sys.stdout)
            return CLOSED
        return result

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name, or suggest the nearest name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from ssl3d.errors import nearest  # noqa: PLC0415  # only needed here, and difflib is slow to load

            raise click.UsageError(f"{error.message.rstrip('.')}{nearest(args[0], COMMANDS)}", ctx) from None


@click.group(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ssl3d")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Which self-supervised method should I pretrain with on my 3D volumes, and is the difference real?"""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: 0 all done, 1 some artifacts failed, 2 bad input, 130 interrupted, 141 output closed."""
    prepare()
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code. Bad input is one line, never a traceback."""
    try:
        result: Any = cli(arguments, prog_name="ssl3d", standalone_mode=False)
    except click.ClickException as error:
        help_of = getattr(error.ctx, "command_path", "") if isinstance(error, click.UsageError) else ""
        return _refuse(error.format_message().rstrip("."), f"; see `{help_of} --help`" if help_of else "")
    except UserError as error:
        return _refuse(str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO) or error.filename is not None:
            raise
        silence(sys.stdout)
        return _refuse(f"the output cannot be written ({error.strerror})")
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted. The same command goes on from here.", err=True)
        return 130
    return result if isinstance(result, int) else 0


def _refuse(message: str, hint: str = "") -> int:
    """Print what is wrong with the input, once for all processes of a run, and return the exit code."""
    from ssl3d.errors import brief  # noqa: PLC0415  # most commands succeed
    from ssl3d.run.rank import leads  # noqa: PLC0415

    if leads():
        click.echo(f"Error: {brief(message)}{hint}", err=True)
    return 2

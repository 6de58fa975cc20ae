"""Types of options: lists, ranges of numbers, roots of data sets; and help in groups."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


class PathType(click.Path):
    """A file or folder that may exist or not; a name that the system cannot look up is refused for all commands."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a path."""
        if not str(value):
            self.fail("an empty name is no file or folder", param, ctx)
        if any("\ud800" <= character <= "\udfff" for character in str(value)):  # so Python keeps other bytes
            self.fail(f"{value} is not a name in UTF-8, which the records of a run need; rename it", param, ctx)
        try:
            Path(value).stat()
        except (FileNotFoundError, NotADirectoryError):
            pass  # refused, or made, where it is used
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.fail(f"{value} cannot be opened ({reason})", param, ctx)
        return super().convert(value, param, ctx)


PATH = PathType()


class Listed(click.ParamType[Any]):
    """A comma-separated list whose parts are converted alike."""

    def __init__(self, name: str = "NAME,...", of: Callable[[str], Any] = str, what: str = "names") -> None:
        self.name, self.of, self.what = name, of, what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Split at commas, drop white space, and convert."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",") if part.strip()]
        if not parts:
            self.fail("needs at least one name", param, ctx)
        try:
            return tuple(found for part in parts for found in self.parts(part))
        except ValueError:
            return self.fail(f"{value!r} is not a list of {self.what}", param, ctx)

    def parts(self, text: str) -> tuple[Any, ...]:
        """Return the values that one part stands for; raises ValueError."""
        return (self.of(text),)


class Numbers(Listed):
    """A comma-separated list of whole numbers and ranges: 0,1,2 or 0-4."""

    def __init__(self) -> None:
        super().__init__("N,...", int, "whole numbers or ranges, as in 0,1,2 or 0-4")

    def parts(self, text: str) -> tuple[Any, ...]:
        """Return a number, or the numbers of a range, ends included."""
        found = re.fullmatch(r"(\d+)-(\d+)", text)
        if found is None:
            return (int(text),)
        first, last = int(found[1]), int(found[2])
        if not first <= last < first + 10_000:
            raise ValueError(text)
        return tuple(range(first, last + 1))


class Root(click.ParamType[Any]):
    """The folder of a data set's files: PATH, or NAME=PATH if there are several."""

    name = "[NAME=]PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        """Split a name from a path; an existing path may contain an equals sign."""
        if isinstance(value, tuple):
            return value
        name, equals, path = str(value).partition("=")
        whole = PATH.convert(value, param, ctx)
        if not equals or "/" in name or whole.exists():
            return "", whole
        return name, PATH.convert(path, param, ctx)


class Grouped(click.Command):
    """A command whose help shows options in groups; see :func:`group`."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per group, in order of first appearance."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(param, "group", "Other"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class GroupedOption(click.Option):
    """An option that belongs to a group."""

    group: str = "Other"


def group(title: str, *options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a decorator that adds options to a command, in one group of its help.

    Args:
        title: title of the group.
        options: decorators made by :func:`click.option` with ``cls=GroupedOption``, in the order of the help.
    """

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
            function.__click_params__[-1].group = title
        return function

    return decorate


def option(*names: str, **settings: Any) -> Callable[[Any], Any]:
    """Return a decorator that adds an option which can belong to a group."""
    return click.option(*names, cls=GroupedOption, **settings)

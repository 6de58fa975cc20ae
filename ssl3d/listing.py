"""The available plugins, listed without importing the project's own. Loads no torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ssl3d.errors import PluginError
from ssl3d.plugin_files import classes
from ssl3d.registry import KINDS, Kind, Plugin, load, plugins

FIRST_PARTY = "ssl3d"


@dataclass(frozen=True)
class Listed:
    """A plugin in a list.

    Attributes:
        kind: "methods", "backbones", "datasets" or "protocols".
        name: name used on the command line.
        summary: from its card, or else the first line of its class's docstring.
        distribution: package that it comes from.
        problem: why it cannot be used; None if no problem is known.
    """

    kind: Kind
    name: str
    summary: str
    distribution: str
    problem: str | None


def listed(kinds: Iterable[Kind] = KINDS) -> list[Listed]:
    """Return every registered plugin of the given kinds.

    The project's own plugins are read as text. Others are imported one by one: only that finds out whether they are
    broken.
    """
    return [_listed(plugin) for kind in kinds for plugin in plugins(kind).values()]


def _listed(plugin: Plugin) -> Listed:
    summary, problem = "", plugin.problem
    try:
        summary = _summary(plugin.target)
        if problem is None and plugin.distribution != FIRST_PARTY:
            load(plugin.kind, plugin.name)
    except PluginError as error:
        problem = problem or str(error)
    return Listed(plugin.kind, plugin.name, summary, plugin.distribution, problem)


def _summary(target: str) -> str:
    """Return one line on ``module:Class``, from its source.

    Raises:
        PluginError: there is no such module, or its source is not valid Python.
    """
    module, _, name = target.partition(":")
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise PluginError(f"{target!r} cannot be found ({error})") from None
    if spec is None or spec.origin is None:
        raise PluginError(f"{target!r} cannot be found: there is no module {module!r}")
    return classes.summary(classes.parse(Path(spec.origin)), name.partition("[")[0].strip())

"""What there is to choose from, read without importing it. Loads no torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ssl3d import scan_classes
from ssl3d.errors import PluginError
from ssl3d.registry import KINDS, Kind, Plugin, load, plugins

FIRST_PARTY = "ssl3d"


@dataclass(frozen=True)
class Listed:
    """A plugin in a list.

    Attributes:
        kind: "methods", "backbones", "datasets" or "protocols".
        name: that people write.
        summary: of its card, or else the first line of its class's docstring.
        distribution: it comes from.
        problem: why it cannot be used; None if nothing is known against it.
    """

    kind: Kind
    name: str
    summary: str
    distribution: str
    problem: str | None


def listed(kinds: Iterable[Kind] = KINDS) -> list[Listed]:
    """Return every registered plugin of some kinds.

    The project's own plugins are read as text. Others are imported, each on its own, because only that finds what is
    broken about them.
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
    """One line on ``module:Class``, from its source.

    Raises:
        PluginError: there is no such module, or its source is not Python.
    """
    module, _, name = target.partition(":")
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise PluginError(f"{target!r} cannot be found ({error})") from None
    if spec is None or spec.origin is None:
        raise PluginError(f"{target!r} cannot be found: there is no module {module!r}")
    return scan_classes.summary(scan_classes.parse(Path(spec.origin)), name.partition("[")[0].strip())

"""What there is to choose from, read without importing it. Loads no torch."""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from ssl3d.errors import PluginError
from ssl3d.registry import KINDS, Kind, Plugin, load, plugins

FIRST_PARTY = "ssl3d"


@dataclass(frozen=True)
class Listed:
    """A plugin in a list.

    Attributes:
        kind: "methods", "backbones" or "datasets".
        name: that people write.
        summary: first line of its class's docstring.
        distribution: it comes from.
        problem: why it cannot be used; None if nothing is known against it.
    """

    kind: Kind
    name: str
    summary: str
    distribution: str
    problem: str | None


def listed() -> list[Listed]:
    """Return every registered plugin.

    The project's own plugins are read as text. Others are imported, each on its own, because only that finds what is
    broken about them.
    """
    return [_listed(plugin) for kind in KINDS for plugin in plugins(kind).values()]


def _listed(plugin: Plugin) -> Listed:
    summary, problem = "", plugin.problem
    try:
        summary = _summary(plugin.target)
        if problem is None and plugin.distribution != FIRST_PARTY:
            load(plugin.kind, plugin.name)
    except PluginError as error:
        problem = str(error)
    return Listed(plugin.kind, plugin.name, summary, plugin.distribution, problem)


def _summary(target: str) -> str:
    """One line on ``module:Class``, from its source: its card's summary, or else its docstring's first line.

    Raises:
        PluginError: there is no such module or class, or the source is not Python.
    """
    module, _, name = target.partition(":")
    try:
        spec = importlib.util.find_spec(module)
    except ImportError as error:
        raise PluginError(f"{target!r} cannot be found ({error})") from None
    if spec is None or spec.origin is None:
        raise PluginError(f"{target!r} cannot be found: there is no module {module!r}")
    try:
        tree = ast.parse(Path(spec.origin).read_text("utf-8"))
    except (SyntaxError, OSError, UnicodeDecodeError) as error:
        raise PluginError(f"{spec.origin} cannot be read as Python ({error})") from None
    found = next((node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name), None)
    if found is None:
        return (ast.get_docstring(tree) or "").split("\n")[0]
    return _card_summary(found) or (ast.get_docstring(found) or "").split("\n")[0]


def _card_summary(definition: ast.ClassDef) -> str | None:
    """The ``summary`` of ``card = Card(...)`` in a class body, where it is written out: by keyword, or second."""
    for node in definition.body:
        if not isinstance(node, ast.AnnAssign | ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        if isinstance(target, ast.Name) and target.id == "card":
            given = [keyword.value for keyword in node.value.keywords if keyword.arg == "summary"]
            for value in [*given, *node.value.args[1:2]]:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    return value.value
    return None

"""The classes of a Python file and their summaries, read as text and never run."""

from __future__ import annotations

import ast
from collections.abc import Collection
from pathlib import Path

from ssl3d.errors import PluginError


def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a file.

    PluginError: it cannot be read, or is not valid Python.
        PluginError: it cannot be read, or is not Python.
    """
    try:
        return ast.parse(path.read_text("utf-8"))
    except (SyntaxError, ValueError, OSError, RecursionError) as error:
        raise PluginError(f"{path} cannot be read as Python ({error})") from None


def subclasses(tree: ast.Module, bases: Collection[str]) -> list[str]:
    """Return the top-level classes of a file that derive from one of the bases by name, directly or indirectly.

    A class with a card that derives from any other class is included: ``class Mine(BYOL)``. If there are none, every
    derived class is a candidate. Names that begin with an underscore are skipped.

    Args:
        tree: syntax tree of the file.
        bases: names of the base classes: "Method".
    """
    found, others, named = [], [], set(bases)
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
            continue
        if named & {_last_name(base) for base in node.bases} or (node.bases and _card(node) is not None):
            named.add(node.name)
            found.append(node.name)
        elif node.bases and not node.name.endswith("Config"):
            others.append(node.name)
    return found or others


def summary(tree: ast.Module, name: str) -> str:
    """Return one line on a class: its card's summary, else the first docstring line of the class, or of the file."""
    found = next((node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name), None)
    if found is None:
        return (ast.get_docstring(tree) or "").split("\n")[0]
    return _card_summary(found) or (ast.get_docstring(found) or "").split("\n")[0]


def _last_name(base: ast.expr) -> str:
    """Return the name of a base without module and type arguments: "Method" for ``method.Method[Config]``."""
    if isinstance(base, ast.Subscript):
        base = base.value
    if isinstance(base, ast.Attribute):
        return base.attr
    return base.id if isinstance(base, ast.Name) else ""


def _card(definition: ast.ClassDef) -> ast.expr | None:
    """Return the value that a class body assigns to ``card``."""
    for node in definition.body:
        if isinstance(node, ast.AnnAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(target, ast.Name) and target.id == "card":
                return node.value
    return None


def _card_summary(definition: ast.ClassDef) -> str | None:
    """Return the ``summary`` of ``card = Card(...)`` if it is a literal, passed by keyword or second."""
    card = _card(definition)
    if isinstance(card, ast.Call):
        given = [keyword.value for keyword in card.keywords if keyword.arg == "summary"]
        for value in [*given, *card.args[1:2]]:
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                return value.value
    return None

"""A plugin's card and settings, as a person reads them."""

from __future__ import annotations

from typing import Any

from pydantic.fields import FieldInfo
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from ssl3d.backbone import Backbone
from ssl3d.card import Card
from ssl3d.config import Config
from ssl3d.dataset import Dataset
from ssl3d.errors import PluginError, nearest
from ssl3d.method import Method
from ssl3d.registry import KINDS, load, plugins, split_variant

KEPT = ("Ge", "Gt", "Le", "Lt")
SIGNS = {"Ge": ">=", "Gt": ">", "Le": "<=", "Lt": "<"}


def describe(name: str) -> list[RenderableType]:
    """Return what to print about a plugin of any kind.

    Raises:
        PluginError: no kind has it, or it is broken.
    """
    kind = find(name)
    card: Card = kind.card
    lines: list[RenderableType] = [f"[bold]{escape(card.name)}[/bold]  {escape(card.summary)}"]
    if card.paper:
        lines.append(escape(f"{card.paper} ({card.year}) {card.link or ''}"))
    lines += [f"  departs: {escape(departure)}" for departure in card.departures]
    if card.licence:
        lines.append(f"  licence: {escape(card.licence)}")
    if issubclass(kind, Dataset):
        planes = ", ".join(filter(None, kind.planes)) or "no choice"
        return [*lines, f"planes: {planes}", escape(kind.__doc__ or "")]
    if issubclass(kind, Method):
        preset = [f"  {name} = {value}" for name, value in _flat(kind.preset)]
        lines += ["recipe fields it sets, unless you do:", *map(escape, preset)] if preset else []
        lines.append(_settings(kind.Config, f"--set method.{name}"))
    else:
        lines += [
            f"  weights {key}: {escape(weights.url)} (input {weights.size}; {escape(weights.licence)})"
            for key, weights in kind.weights.items()
        ]
        lines += [f"least input (slices, rows, columns): {kind.min_size}"]
        lines.append(_settings(kind.Config, f"--set backbone.{name}"))
    return lines


def find(name: str) -> type[Method] | type[Backbone] | type[Dataset]:
    """Return the class that a name, or ``module:Class``, or ``path/to/file.py:Class`` stands for, whatever its kind."""
    for kind in KINDS:
        if split_variant(kind, name)[0] in plugins(kind) or (":" in name and kind == KINDS[-1]):
            found = load(kind, name)
            if not issubclass(found, Method | Backbone | Dataset):
                raise PluginError(f"{name!r} is neither a method nor a backbone nor a data set of ssl3d's")
            return found
    known = [plugin for kind in KINDS for plugin in plugins(kind)]
    raise PluginError(f"nothing is called {name!r}{nearest(name, known)}")


def _settings(config: type[Config], prefix: str) -> Table | str:
    if not config.model_fields:
        return "It has no settings."
    table = Table("setting", "default", "bounds", "meaning", title=f"{prefix}.SETTING=VALUE", title_justify="left")
    for name, field in config.model_fields.items():
        table.add_row(name, escape(str(field.default)), escape(_bounds(field)), escape(field.description or ""))
    return table


def _bounds(field: FieldInfo) -> str:
    bounds = []
    for constraint in field.metadata:
        kind = type(constraint).__name__
        if kind in KEPT:
            bounds.append(f"{SIGNS[kind]} {getattr(constraint, kind.lower())}")
    if bounds:
        return ", ".join(bounds)
    choices: tuple[Any, ...] = getattr(field.annotation, "__args__", ())
    return " | ".join(map(str, choices)) if choices and all(isinstance(choice, str) for choice in choices) else ""


def _flat(values: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not hasattr(values, "items"):
        return [(prefix, values)]
    return [pair for name, value in values.items() for pair in _flat(value, f"{prefix}.{name}".lstrip("."))]

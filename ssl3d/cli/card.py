"""A plugin's card and settings, or the fields of a recipe, formatted for reading. Imports only that plugin."""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from ssl3d.card import Card
from ssl3d.errors import PluginError, nearest
from ssl3d.experiment import known_fields
from ssl3d.registry import BASES, KINDS, WORDS, Kind, find_kind, load, plugins

SIGNS = {"Ge": ">=", "Gt": ">", "Le": "<=", "Lt": "<", "MultipleOf": "multiple of"}
ATTRIBUTES = {"MultipleOf": "multiple_of"}  # of pydantic's constraints, if it differs from the class name
WHOLE = "recipe"  # the section with all fields


def describe(name: str) -> list[RenderableType]:
    """Return what to print about a plugin of any kind, or about a section of the recipe.

    Raises:
        PluginError: there is no such plugin or section, or the plugin is broken.
    """
    fields = recipe_fields(name)
    if fields:
        return [_table(fields, "--set FIELD=VALUE, or the same name in a TOML file")]
    try:
        kind = find_kind(name)
    except PluginError:
        if ":" in name or name.endswith(".py"):
            raise
        known = [*(plugin for kind in KINDS for plugin in plugins(kind)), WHOLE, *_sections()]
        raise PluginError(f"no plugin and no section of the recipe is called {name!r}{nearest(name, known)}") from None
    plugin = load(kind, name)
    card = getattr(plugin, "card", None)
    if not isinstance(card, Card):
        raise PluginError(f"{WORDS[kind]} {name!r} has no card; set card = Card(name=..., summary=...) in its class")
    return [*_card(card), *_details(kind, name, plugin)]


def recipe_fields(section: str) -> dict[str, FieldInfo]:
    """Return the fields of a section of the recipe by dotted name, or all of them for "recipe"."""
    fields: Mapping[str, FieldInfo] = known_fields()
    return {name: field for name, field in fields.items() if section == WHOLE or name.startswith(f"{section}.")}


def _sections() -> list[str]:
    return list(dict.fromkeys(name.partition(".")[0] for name in known_fields() if "." in name))


def _card(card: Card) -> list[RenderableType]:
    lines = [f"[bold]{escape(card.name)}[/bold]  {escape(card.summary)}"]
    if card.paper:
        lines.append(escape(f"{card.paper} ({card.year}) {card.link or ''}"))
    lines += [f"  departs: {escape(departure)}" for departure in card.departures]
    if card.licence:
        lines.append(f"  licence: {escape(card.licence)}")
    return list(lines)


def _details(kind: Kind, name: str, plugin: Any) -> list[RenderableType]:
    """Return the details of a plugin, by its kind, in addition to its card."""
    if kind == "datasets":
        planes = ", ".join(filter(None, plugin.planes)) or "no choice"
        return [f"planes: {escape(planes)}", escape(inspect.getdoc(plugin) or "")]
    lines: list[str] = []
    if kind == "methods":
        preset = [f"  {field} = {value}" for field, value in _flat(plugin.preset)]
        lines += ["recipe fields that it sets, unless you do:", *preset] if preset else []
        needs = [*sorted(plugin.needs), *(["a backbone with tokens"] if plugin.needs_tokens else [])]
        lines += [f"needs: {', '.join(needs)}"] if needs else []
    elif kind == "backbones":
        for key, weights in plugin.weights.items():
            lines.append(f"  weights {key}: {weights.url} (licence: {weights.licence})")
            known = f"; pretrained on {', '.join(weights.corpora)}" if weights.corpora else ""
            lines.append(f"    for input of {weights.input}{known}")
        lines.append(f"smallest input (slices, rows, columns): {plugin.min_size}")
    else:
        lines.append(f"tasks: {', '.join(sorted(plugin.kinds))}")
    settings = plugin.Config.model_fields
    title = f"--set {BASES[kind][0].rpartition('.')[2].lower()}.{name}.SETTING=VALUE"
    return [*map(escape, lines), _table(settings, title) if settings else "It has no settings."]


def _table(fields: Mapping[str, FieldInfo], title: str) -> Table:
    table = Table("setting", "default", "bounds", "meaning", title=escape(title), title_justify="left")
    table.columns[0].overflow = "fold"  # a truncated name cannot be typed
    for name, field in fields.items():
        default = field.get_default(call_default_factory=True)
        table.add_row(name, escape(str(default)), escape(_bounds(field)), escape(field.description or ""))
    return table


def _bounds(field: FieldInfo) -> str:
    """Return the bounds of a number, or the values to choose from."""
    choices = _choices(field.annotation)
    bounds = []
    for constraint in field.metadata:
        kind = type(constraint).__name__
        if kind in SIGNS:
            bounds.append(f"{SIGNS[kind]} {getattr(constraint, ATTRIBUTES.get(kind, kind.lower()))}")
    return ", ".join(bounds) or " | ".join(choices)


def _choices(annotation: Any) -> list[str]:
    """Return the fixed values that an annotation allows, with its other types; empty if there are no fixed values."""
    if get_origin(annotation) is Literal:
        return list(map(str, get_args(annotation)))
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [(part, _choices(part)) for part in get_args(annotation) if part is not type(None)]
        if any(choices for _, choices in parts):
            return [text for part, choices in parts for text in choices or [_word(part)]]
    return []


def _word(annotation: Any) -> str:
    """Return the name of a type, without constraints."""
    inner = getattr(annotation, "__origin__", annotation)
    return {"int": "number", "float": "number", "bool": "true | false"}.get(getattr(inner, "__name__", ""), "value")


def _flat(values: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not hasattr(values, "items"):
        return [(prefix, values)]
    return [pair for name, value in values.items() for pair in _flat(value, f"{prefix}.{name}".lstrip("."))]

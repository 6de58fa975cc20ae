"""Rules for what a plugin declares: card, configuration, preset, and for what its import leaves behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ssl3d.budget import rules
from ssl3d.card import Card
from ssl3d.config import Config
from ssl3d.errors import RecipeError
from ssl3d.recipe import EncoderRecipe
from ssl3d.testing.imports import side_effects
from ssl3d.testing.kit import MethodKit
from ssl3d.testing.runner import BrokenRuleError, HasKind, NotApplicable, require


def check_card(kit: HasKind) -> None:
    """The card has a name and a one-line summary, and with a year also the paper and its https link."""
    card = getattr(kit.kind, "card", None)
    if not isinstance(card, Card):
        raise BrokenRuleError(f"{kit.kind.__name__} has no card; set card = Card(name=..., summary=...)")
    require(card.name.strip() and card.summary.strip(), "the card's name or summary is empty; write one line each")
    require("\n" not in card.name + card.summary, "the card's name or summary has more than one line; shorten it")
    if card.year is not None:
        require(card.paper, f"the card gives the year {card.year} and no paper; name its authors and title")
        require(
            (card.link or "").startswith("https://"), f"the card gives the year {card.year} and no https link; add it"
        )
    require(
        all(text.strip() for text in card.departures),
        "the card has an empty departure; write a sentence or leave it out",
    )


def check_config(kit: HasKind) -> None:
    """Every field of the configuration has a valid default and a description, and every number has bounds."""
    config = getattr(kit.kind, "Config", None)
    require(
        isinstance(config, type) and issubclass(config, Config),
        "Config is not derived from ssl3d.config.Config; derive it",
    )
    assert config is not None
    require(config.model_config.get("frozen"), "Config is not frozen; keep the model_config of ssl3d.config.Config")
    for name, field in config.model_fields.items():
        require(not field.is_required(), f"Config.{name} has no default; give the paper's value")
        require((field.description or "").strip(), f"Config.{name} has no description; give its Field one")
    schema = config.model_json_schema()
    for name, part in schema.get("properties", {}).items():
        for number in _numbers(part, schema.get("$defs", {})):
            require(_bounded(number), f"Config.{name} has no bounds; give its Field ge, gt, le or lt")
    try:
        config.checked(config().model_dump(), "Config")
        config.checked({name: rule.paper for name, rule in rules(config).items()}, "Config")
    except RecipeError as error:
        raise BrokenRuleError(f"a default is wrong; correct it: {error}") from None


def check_preset(kit: MethodKit) -> None:
    """The preset sets fields that recipes have, to values that they take."""
    if not kit.kind.preset:
        raise NotApplicable("it has no preset")
    for name in ("method", "backbone", "seed", "corpus", "task"):
        require(name not in kit.kind.preset, f"the preset sets {name!r}, which is the user's choice; leave it out")
    EncoderRecipe.checked(kit.kind.preset, "preset")
    kit.kind.Config.checked(kit.kind.preset.get("method_config", {}), "preset.method_config")


def check_import(kit: HasKind) -> None:
    """Importing the module prints nothing and changes no global setting."""
    effects = side_effects(kit.kind)
    require(not effects, f"importing {kit.kind.__module__} {' and '.join(effects)}; move that into a function")


def _numbers(schema: Mapping[str, Any], shared: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the numbers inside a JSON schema; fixed choices are left out."""
    if "$ref" in schema:
        schema = shared[schema["$ref"].rpartition("/")[2]]
    if "enum" in schema or "const" in schema:
        return
    if schema.get("type") in {"number", "integer"}:
        yield schema
    inner = [*schema.get("anyOf", []), *schema.get("prefixItems", []), *schema.get("properties", {}).values()]
    for part in (*inner, schema.get("items"), schema.get("additionalProperties")):
        if isinstance(part, Mapping):
            yield from _numbers(part, shared)


def _bounded(number: Mapping[str, Any]) -> bool:
    return any(bound in number for bound in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"))

"""Recipes into networks, with every parameter's first value decided by the seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from ssl3d.backbone import Backbone
from ssl3d.data.augment import Augment
from ssl3d.data.rng import mix
from ssl3d.errors import PluginError
from ssl3d.method import Method
from ssl3d.norm import resolve_norm
from ssl3d.pretrained import load_weights
from ssl3d.recipe import Recipe
from ssl3d.registry import load, split_variant

T = TypeVar("T")


def method_class(reference: str) -> type[Method]:
    """Return the method behind a name, ``module:Class`` or ``file.py:Class``; raises PluginError."""
    kind = _subclass(load("methods", reference), Method, reference)  # type: ignore[type-abstract]
    missing = sorted(getattr(kind, "__abstractmethods__", ()))
    if missing or not hasattr(kind, "card"):
        raise PluginError(
            f"method {reference!r} lacks {missing[0] + '()' if missing else 'its card'}; `ssl3d check` it"
        )
    return kind


def backbone_class(reference: str) -> type[Backbone]:
    """Return the backbone behind a name, ``family/variant``, ``module:Class`` or ``file.py:Class``.

    Raises:
        PluginError: there is none, or the name has a variant where the backbone is no family, or has none where it is.
    """
    kind = _subclass(load("backbones", reference), Backbone, reference)  # type: ignore[type-abstract]
    variant = split_variant("backbones", reference)[1]
    if variant and not kind.family:
        raise PluginError(f"backbone {reference!r}: {reference.partition('/')[0]!r} has no variants")
    if kind.family and not variant and ":" not in reference:
        raise PluginError(f"backbone {reference!r} is a family; name one of it, as in {reference}/MODEL")
    return kind


def build_backbone(recipe: Recipe, weights_file: Path | None = None, initialise: bool = True) -> Backbone:
    """Build the backbone of a recipe, with the pretrained weights that its method starts from.

    Args:
        recipe: of the cell.
        weights_file: local file of pretrained weights, in place of a download.
        initialise: False leaves pretrained weights out: the caller has others to load.

    Raises:
        WeightsError: they are absent, corrupt, or do not match.
        RecipeError: the backbone's settings are wrong, or views are smaller than it takes.
    """
    kind = backbone_class(recipe.backbone)
    weights = method_class(recipe.method).initial_weights
    config = kind.Config.checked(recipe.backbone_config, f"backbone.{recipe.backbone}")
    config = config.model_copy(update={"norm": resolve_norm(config.norm, pretrained=weights is not None)})
    with _seeded(recipe.seed, 0):
        backbone = kind(config, split_variant("backbones", recipe.backbone)[1])
    if weights is not None and initialise:
        backbone.loaded = load_weights(backbone, weights, weights_file)
    return backbone


def build_method(recipe: Recipe, weights_file: Path | None = None, initialise: bool = True) -> Method:
    """Build the method of a recipe around its backbone; arguments and errors are those of :func:`build_backbone`."""
    kind = method_class(recipe.method)
    backbone = build_backbone(recipe, weights_file, initialise)
    config = kind.Config.checked(recipe.method_config, f"method.{recipe.method}")
    with _seeded(recipe.seed, 1):
        return kind(backbone, config, Augment(recipe.augment, recipe.view_size))


def _subclass(found: type, base: type[T], reference: str) -> type[T]:
    if not issubclass(found, base):
        raise PluginError(f"{reference!r} is not a {base.__name__.lower()}: its class is no subclass of ssl3d's")
    return found


@contextmanager
def _seeded(*key: int) -> Iterator[None]:
    """Initialise what is built inside from a key, and leave the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(mix(*key) >> 1))  # torch.manual_seed would reseed GPUs, too
        yield

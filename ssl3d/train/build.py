"""Building networks from recipes; the seed alone decides the initial value of every parameter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from ssl3d.backbone import Backbone
from ssl3d.budget import Budget, remarks
from ssl3d.data.augment import Augment
from ssl3d.data.rng import Stream, mix
from ssl3d.errors import PluginError, WeightsError
from ssl3d.method import AnyMethod, Method
from ssl3d.parts.norm import resolve_norm
from ssl3d.recipe import AugmentRecipe, EncoderRecipe, InitialWeights, PretrainRecipe
from ssl3d.registry import load, split_variant
from ssl3d.task import Task
from ssl3d.train.schedule import Schedule
from ssl3d.weights.files import file_hash, local
from ssl3d.weights.load import load_weights

T = TypeVar("T")


def method_class(reference: str) -> type[AnyMethod]:
    """Return the method behind a name, ``module:Class`` or ``file.py:Class``; raises PluginError."""
    kind = _subclass(load("methods", reference), Method, reference)  # type: ignore[type-abstract]
    missing = sorted(getattr(kind, "__abstractmethods__", ()))
    if missing or not hasattr(kind, "card"):
        raise PluginError(
            f"method {reference!r} lacks {missing[0] + '()' if missing else 'its card'}; `ssl3d check` it"
        )
    if kind.family and split_variant("methods", reference)[1] is None:
        raise PluginError(
            f"method {reference!r} needs the weights to evaluate: {reference}:NAME with a name of the backbone's "
            f"published weights (`ssl3d show`), or {reference}:FILE"
        )
    return kind


def backbone_class(reference: str) -> type[Backbone]:
    """Return the backbone behind a name, ``family/variant``, ``module:Class`` or ``file.py:Class``.

    Raises:
        PluginError: there is none; the name has a variant and the backbone is not a family, or vice versa.
    """
    kind = _subclass(load("backbones", reference), Backbone, reference)  # type: ignore[type-abstract]
    variant = split_variant("backbones", reference)[1]
    if variant and not kind.family:
        raise PluginError(f"backbone {reference!r}: {reference.partition('/')[0]!r} has no variants")
    if kind.family and not variant and ":" not in reference:
        raise PluginError(f"backbone {reference!r} is a family; name one member, as in {reference}/MODEL")
    return kind


def build_backbone(recipe: EncoderRecipe, weights_file: Path | None = None, initialise: bool = True) -> Backbone:
    """Build the backbone of a recipe, with the pretrained weights that it starts from.

    Args:
        recipe: recipe of the encoder.
        weights_file: local file of these weights, used in place of the one that the recipe names.
        initialise: False skips pretrained weights, for a caller that loads other weights.

    Raises:
        WeightsError: the weights are missing, corrupt, or do not match.
        RecipeError: the backbone's settings are invalid.
        PluginError: the method needs tokens, which the backbone does not have.
    """
    kind, method = backbone_class(recipe.backbone), method_class(recipe.method)
    if method.needs_tokens and not kind.tokens:
        raise PluginError(
            f"method {recipe.method!r} needs a backbone with tokens, and {recipe.backbone!r} has none; choose a vision "
            "transformer, such as vit3d_tiny"
        )
    config = kind.Config.checked(recipe.backbone_config, f"backbone.{recipe.backbone}")
    config = config.model_copy(update={"norm": resolve_norm(config.norm, pretrained=recipe.init is not None)})
    with _seeded(Stream.BACKBONE, recipe.seed):
        backbone = kind(config, split_variant("backbones", recipe.backbone)[1])
    if recipe.init is not None and initialise:
        backbone.loaded = _initialise(backbone, recipe.init, weights_file)
    return backbone


def _initialise(backbone: Backbone, init: InitialWeights, file: Path | None) -> str:
    """Load the weights that an encoder starts from; return one line on what was loaded."""
    published = init.sha256 is None
    path = file or (None if published else local(init.name))
    if path is not None and not published and file_hash(path) != init.sha256:
        raise WeightsError(f"{path} was changed since the run was planned; start it again, or put the old file back")
    name = init.name if published else None
    return load_weights(backbone, name, path, allow_partial=init.allow_partial, prefix=init.prefix)


def build_method(
    recipe: EncoderRecipe,
    weights_file: Path | None = None,
    initialise: bool = True,
    task: Task | None = None,
    volumes: int | None = None,
) -> AnyMethod:
    """Build the method of a recipe around its backbone.

    Args:
        recipe: recipe of the encoder.
        weights_file: see :func:`build_backbone`.
        initialise: see :func:`build_backbone`.
        task: task of the labels, for a method that needs them.
        volumes: volumes of the corpus, for settings that follow the length of the training; None: as in the papers.

    Raises:
        RecipeError: the settings of the method or of the backbone are invalid.
        PluginError: the method needs labels and there is no task, or it needs tokens and the backbone has none.
        WeightsError: pretrained weights are missing, corrupt, or do not match.
    """
    kind = method_class(recipe.method)
    if "labels" in kind.needs and task is None:
        raise PluginError(f"method {recipe.method!r} needs labels; give it a corpus with a task")
    backbone = build_backbone(recipe, weights_file, initialise)
    config = kind.Config.checked(recipe.method_config, f"method.{recipe.method}")
    budget = budget_of(recipe.pretrain, volumes) if recipe.pretrain and volumes else None
    with _seeded(Stream.METHOD, recipe.seed):
        return kind(backbone, config, Augment(recipe.augment or AugmentRecipe(), recipe.view_size), task, budget)


def misfits(recipe: EncoderRecipe, volumes: int) -> list[str]:
    """Return one sentence per setting of an encoder that does not fit its corpus, or was adapted to it.

    Args:
        recipe: recipe of the encoder, with a ``pretrain`` part.
        volumes: volumes of the corpus.
    """
    if recipe.pretrain is None:
        return []
    budget, asked = budget_of(recipe.pretrain, volumes), recipe.pretrain.batch_size
    config = method_class(recipe.method).Config.checked(recipe.method_config, f"method.{recipe.method}")
    whole = f"the effective batch is {volumes}, all training volumes: fewer than {asked}"
    return [*([whole] if budget.batch_size < asked else []), *remarks(config, budget)]


def budget_of(pretrain: PretrainRecipe, volumes: int) -> Budget:
    """Return the length of a training on a number of volumes."""
    schedule = Schedule.of(pretrain, volumes)
    return Budget(schedule.steps, volumes, schedule.batch_size)


def _subclass(found: type, base: type[T], reference: str) -> type[T]:
    if not issubclass(found, base):
        raise PluginError(f"{reference!r} is not a {base.__name__.lower()}: its class is not a subclass of ssl3d's")
    return found


@contextmanager
def _seeded(*key: int) -> Iterator[None]:
    """Seed the initialisation inside from a key; restore the global generator afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(mix(*key) >> 1))  # torch.manual_seed would also reseed GPUs
        yield

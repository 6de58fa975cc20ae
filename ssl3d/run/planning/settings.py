"""The settings of one encoder: defaults, the method's preset and the user's settings, in one checked recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ssl3d.backbone import Backbone
from ssl3d.config import Config
from ssl3d.errors import RecipeError
from ssl3d.experiment import Experiment
from ssl3d.method import AnyMethod
from ssl3d.recipe import CorpusPart, EncoderRecipe, InitialWeights, Size
from ssl3d.run.planning.datasets import DataPlane
from ssl3d.run.planning.flips import with_flips
from ssl3d.run.planning.initial import initial_weights, norm_of_file, row_name
from ssl3d.train.build import backbone_class, method_class


def encoder_recipe(
    experiment: Experiment,
    parts: Sequence[CorpusPart],
    planes: Sequence[DataPlane],
    *,
    method: str,
    backbone: str,
    seed: int,
    task: str | None,
) -> EncoderRecipe:
    """Return the recipe of an encoder.

    The user's settings override the method's preset, which overrides that of the corpus if its data sets agree, which
    overrides the defaults. All settings are written out, so that a changed default gives a different recipe.

    Args:
        experiment: the request.
        parts: parts of the corpus.
        planes: the same parts as data sets; the first determines the view size if it is not set.
        method: name of the method.
        backbone: name of the backbone.
        seed: seed of the repetition.
        task: task whose labels the method sees; None if it needs none.

    Raises:
        RecipeError: a setting is unknown or out of bounds, or method, backbone and view do not fit together.
    """
    kind, network = method_class(method), backbone_class(backbone)
    init = initial_weights(experiment, method, kind, backbone, network)
    asked = experiment.asked()
    sections: dict[str, Any] = {name: asked[name] for name in ("augment", "pretrain") if name in asked}
    sections["backbone_config"] = asked.get("backbone", {}).get(backbone, {})
    presets = [dict(one.dataset.preset) for one in planes]
    of_corpus = presets[0] if all(preset == presets[0] for preset in presets) else {}
    values = merge(merge(of_corpus, kind.preset), sections)
    values["view_size"] = _view_size(experiment, planes[0], _size(init, network), values.get("view_size"))
    values["method_config"] = _whole(kind.Config, asked.get("method", {}).get(method, {}), f"method.{method}")
    settings = _whole(network.Config, values["backbone_config"], f"backbone.{backbone}")
    values["backbone_config"] = norm_of_file(init, settings)
    values |= {"method": row_name(method, init), "backbone": backbone, "seed": seed, "task": task}
    values |= {"init": None if init is None else init.model_dump()}
    if kind.trains:
        values = {"augment": {}, "pretrain": {}, **values, "corpus": [part.model_dump() for part in parts]}
    else:
        values = {**values, "augment": None, "pretrain": None}
    if kind.trains and "labels" in kind.needs:  # inner folds cannot judge features that were trained on their labels
        values["pretrain"] = {**values["pretrain"], "tune_lr": ()}
    recipe = EncoderRecipe.checked(values)
    _check_fit(recipe, kind, network)
    if recipe.augment is None:
        return recipe
    chosen = "flip" in values["augment"]
    return recipe.model_copy(update={"augment": with_flips(recipe.augment, planes, chosen=chosen)})


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values merged section by section; ``over`` overrides ``under``."""
    merged = dict(under)
    for name, value in over.items():
        below = merged.get(name)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[name] = merge(below, value) if both else value  # type: ignore[arg-type]  # both are mappings here
    return merged


def _whole(config: type[Config], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return checked settings with all defaults written out."""
    return config.checked(values, where).model_dump(mode="json")


def _view_size(experiment: Experiment, data_plane: DataPlane, weights: Size | None, preset: Any) -> Size:
    """Return the requested size; else the method's; else its pretrained weights'; else the data set's."""
    if experiment.view_size is not None:
        return experiment.view_size
    if preset is not None:
        size: Size = tuple(preset)
        return size
    if weights is not None:
        slices, rows, columns = weights
        return slices if slices > 1 else data_plane.dataset.view_size[0], rows, columns  # 1: an encoder of slices
    return data_plane.dataset.view_size


def _size(init: InitialWeights | None, network: type[Backbone]) -> Size | None:
    """Return the training size of published weights; None for files, which do not state it."""
    return None if init is None or init.sha256 is not None else network.weights[init.name].size


def _check_fit(recipe: EncoderRecipe, kind: type[AnyMethod], network: type[Backbone]) -> None:
    if any(have < need for have, need in zip(recipe.view_size, network.min_size, strict=True)):
        raise RecipeError(
            f"view_size = {recipe.view_size} is smaller than backbone {recipe.backbone!r} takes, {network.min_size} "
            "(slices, rows, columns); set a larger one"
        )
    if kind.needs_tokens and not network.tokens:
        raise RecipeError(
            f"method {recipe.method!r} needs a backbone with tokens, and {recipe.backbone!r} has none; choose a vision "
            "transformer, such as vit3d_tiny"
        )

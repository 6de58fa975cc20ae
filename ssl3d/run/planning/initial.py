"""The weights that encoders start from: which, from where, and what they were pretrained on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from ssl3d.backbone import Backbone
from ssl3d.dataset import Dataset
from ssl3d.errors import RecipeError, nearest, quoted
from ssl3d.experiment import Experiment
from ssl3d.method import AnyMethod
from ssl3d.recipe import EncoderRecipe, InitialWeights
from ssl3d.registry import split_variant
from ssl3d.train.build import method_class
from ssl3d.weights.files import file_hash, local, read_state, recipe_of
from ssl3d.weights.load import has_statistics

DIGITS = 8  # of a file's hash, in the name of its row


def initial_weights(
    experiment: Experiment, method: str, kind: type[AnyMethod], backbone: str, network: type[Backbone]
) -> InitialWeights | None:
    """Return the weights that an encoder starts from; None for a random start.

    Args:
        experiment: the request.
        method: name of the method, "pretrained:kinetics400".
        kind: its class.
        backbone: name of the backbone.
        network: its class.

    Raises:
        RecipeError: the backbone has no such weights, and there is no such file.
        WeightsError: the file cannot be read.
    """
    fixed = kind.initial_weights
    if fixed is not None:
        if fixed not in network.weights:
            raise RecipeError(
                f"method {method!r} starts from {fixed} weights, and backbone {backbone!r} has none of that name (it "
                f"has: {_known(network)}); choose another backbone, or leave {method!r} out"
            )
        return InitialWeights(name=fixed, corpora=network.weights[fixed].corpora)
    if kind.family:
        name = split_variant("methods", method)[1]
    else:
        starts = kind.trains and kind.own_backbone is None and method in experiment.methods  # controls stay as they are
        name = experiment.init.weights if starts else None
    if name is None:
        return None
    if name in network.weights:
        return InitialWeights(name=name, corpora=network.weights[name].corpora)
    file = local(name)
    if not (os.path.lexists(file) or file.suffix or len(file.parts) > 1):
        raise RecipeError(
            f"backbone {backbone!r} has no weights {quoted(name)}{nearest(name, network.weights)} (it has: "
            f"{_known(network)}); correct the name, or give the path of a file"
        )
    return InitialWeights(
        name=name,
        prefix=experiment.init.prefix,
        allow_partial=experiment.init.allow_partial,
        sha256=file_hash(file),
        corpora=tuple(_seen(recipe_of(file))),
    )


def check_init(experiment: Experiment) -> None:
    """Refuse weights to start from where no requested method trains a backbone of the run.

    Raises:
        RecipeError: there is no such method.
    """
    kinds = [method_class(method) for method in experiment.methods]
    if experiment.init.weights is not None and not any(kind.trains and kind.own_backbone is None for kind in kinds):
        raise RecipeError(
            f"--init {quoted(experiment.init.weights)} is given, and none of {', '.join(experiment.methods)} trains an "
            "encoder that could start from it; leave it out, or write --methods pretrained:... to evaluate it as it is"
        )


def row_name(method: str, init: InitialWeights | None) -> str:
    """Return the name of a method in recipes and tables: of a file, its name and hash in place of its path.

    >>> row_name("pretrained:runs/a/encoders/b/encoder.safetensors", ...)
    "pretrained:byol@0f1e2d3c"
    """
    family, name = split_variant("methods", method)
    if name is None or init is None or init.sha256 is None:
        return method
    own = recipe_of(local(init.name)).get("method")
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", str(own or PurePath(init.name).stem))[:40]
    return f"{family}:{stem}@{init.sha256[:DIGITS]}"


def norm_of_file(init: InitialWeights | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a backbone's settings with the norm that a file of weights was trained with, where that is ``auto``."""
    if init is None or init.sha256 is None or settings.get("norm") != "auto":
        return dict(settings)
    frozen = has_statistics(read_state(local(init.name)))
    return {**settings, "norm": "frozen" if frozen else "group"}


def overlap(init: InitialWeights | None, data: str, dataset: Dataset) -> str:
    """Return a sentence if weights were pretrained on a data set that is evaluated here; "" if not.

    Names are compared without case, spaces and signs.

    Args:
        init: the weights; None for a random start.
        data: name of the data set, with its variant.
        dataset: the data set.
    """
    if init is None:
        return ""
    names = {_plain(name) for name in (data, *data.split(":"), dataset.family, dataset.card.name, *dataset.aliases)}
    found = [corpus for corpus in init.corpora if _plain(corpus) in names]
    if not found:
        return ""
    return f"the weights {init.text} were pretrained on {found[0]}, and may have seen test volumes of {dataset.name}"


def initial_notes(recipes: Iterable[EncoderRecipe], overlaps: Iterable[str]) -> Iterator[str]:
    """Yield one sentence on the methods that learn on from weights, and one on each overlap with an evaluated set."""
    recipes = list(recipes)
    starting: dict[str, dict[str, None]] = {}
    for recipe in recipes:
        if recipe.pretrain is not None and recipe.init is not None:
            starting.setdefault(recipe.init.text, {})[recipe.method] = None
    shown = {recipe.init.text for recipe in recipes if recipe.pretrain is None and recipe.init is not None}
    for weights, methods in starting.items():
        hint = "" if weights in shown else "; add the weights themselves to --methods, as pretrained:..."
        yield f"{', '.join(methods)} start from the weights {weights}{hint}"
    yield from dict.fromkeys(filter(None, overlaps))


def _known(network: type[Backbone]) -> str:
    return ", ".join(network.weights) or "none"


def _seen(recipe: Mapping[str, Any]) -> Iterator[str]:
    """Yield the data sets that an encoder of ssl3d was pretrained on, and those of the weights that it started from."""
    parts, init = recipe.get("corpus"), recipe.get("init")  # from the file, so of any type
    if isinstance(parts, list):
        yield from (str(part["data"]) for part in parts if isinstance(part, dict) and "data" in part)
    if isinstance(init, dict) and isinstance(init.get("corpora"), list):
        yield from map(str, init["corpora"])


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", name.lower())

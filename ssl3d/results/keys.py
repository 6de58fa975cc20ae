"""Keys of artifacts: the hash of exactly what decides them. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ssl3d.recipe import EncoderRecipe, EvaluationRecipe, RateRecipe, Size, digest

NUMERICS = 3  # of the core: increase it with every change to views, windows, optimisers, features or protocols that
# changes a number, so that earlier artifacts are made again
DIGITS = 16


def encoder_key(
    recipe: EncoderRecipe,
    *,
    corpus: str | None,
    sources: Mapping[str, str],
    weights: str | None,
    rate: str | None = None,
) -> str:
    """Return the key of an encoder.

    Args:
        recipe: recipe of the encoder. The sources of plugins are hashed, not their names.
        corpus: fingerprint of the volumes it is pretrained on (with their labels or patients, if the method needs
            them); None if it is not trained.
        sources: hashes of the plugins' sources, by role.
        weights: hash of the pretrained weights that it starts from; None if there are none.
        rate: key of the choice of its learning rate; None if that is the recipe's.
    """
    left_out = {"method", "backbone", "corpus", "task", "init"}
    plain = recipe.model_dump(mode="json", exclude=left_out)
    if recipe.init is not None:
        plain["init"] = recipe.init.choices()
    return _key("encoder", recipe=plain, corpus=corpus, sources=dict(sources), weights=weights, rate=rate)


def rate_key(recipe: RateRecipe, *, trials: Sequence[str], data: Sequence[str]) -> str:
    """Return the key of the choice of a learning rate. It is known before the first trial.

    Args:
        recipe: recipe of the choice. The content of the training cases is hashed, not their names.
        trials: keys of the trial encoders, in the order of the factors.
        data: for each part of the recipe, the hash of the bytes, targets and patients of its training cases.
    """
    plain = recipe.model_dump(mode="json", exclude={"parts"})
    return _key("rate", recipe=plain, trials=list(trials), data=list(data))


def features_key(encoder: str, *, volumes: str, view_size: Size, batch_size: int) -> str:
    """Return the key of the features of a data set's volumes, whose bytes have the hash ``volumes``.

    The batch size is included because it affects rounding.
    """
    return _key("features", encoder=encoder, volumes=volumes, view_size=view_size, batch_size=batch_size)


def evaluation_key(recipe: EvaluationRecipe, *, encoder: str, data: str, sources: Mapping[str, str]) -> str:
    """Return the key of an evaluation.

    Args:
        recipe: recipe of the evaluation. The content of data set and protocol is hashed, not their names.
        encoder: key of the encoder.
        data: hash of the bytes, targets, patients and splits of the cases with a target.
        sources: hashes of the protocol's sources, by role.
    """
    plain = recipe.model_dump(mode="json", exclude={"data", "plane", "protocol", "folds", "fold"})
    return _key("evaluation", recipe=plain, encoder=encoder, data=data, sources=dict(sources))


def _key(kind: str, **parts: Any) -> str:
    return digest({"artifact": kind, "numerics": NUMERICS, **parts}, DIGITS)

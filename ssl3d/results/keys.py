"""Keys of artifacts: the hash of what decides one, and nothing else. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl3d.recipe import EncoderRecipe, EvaluationRecipe, Size, digest

NUMERICS = 2  # of the core: raise it with every change to views, windows, optimisers, features or protocols that
# changes a number, so that what was made before is made again
DIGITS = 16


def encoder_key(recipe: EncoderRecipe, *, corpus: str | None, sources: Mapping[str, str], weights: str | None) -> str:
    """Return the key of an encoder.

    Args:
        recipe: of the encoder. References of plugins do not count, their sources do.
        corpus: fingerprint of the volumes it is pretrained on (with their labels or patients, where the method needs
            those); None if it is not trained.
        sources: hashes of the plugins' sources, by role.
        weights: hash of the pretrained weights that it starts from; None without.
    """
    left_out = {"method", "backbone", "corpus", "task"}
    plain = recipe.model_dump(mode="json", exclude=left_out)
    return _key("encoder", recipe=plain, corpus=corpus, sources=dict(sources), weights=weights)


def features_key(encoder: str, *, volumes: str, view_size: Size, batch_size: int) -> str:
    """Return the key of the features of a data set's volumes, whose bytes have the hash ``volumes``.

    The number of volumes encoded at once decides rounding.
    """
    return _key("features", encoder=encoder, volumes=volumes, view_size=view_size, batch_size=batch_size)


def evaluation_key(recipe: EvaluationRecipe, *, encoder: str, data: str, sources: Mapping[str, str]) -> str:
    """Return the key of an evaluation.

    Args:
        recipe: of the evaluation. The names of data set and protocol do not count, their content does.
        encoder: its key.
        data: hash of the bytes of the cases that have a target, of their targets, patients and splits.
        sources: hashes of the protocol's sources, by role.
    """
    plain = recipe.model_dump(mode="json", exclude={"data", "plane", "protocol", "folds", "fold"})
    return _key("evaluation", recipe=plain, encoder=encoder, data=data, sources=dict(sources))


def _key(kind: str, **parts: Any) -> str:
    return digest({"artifact": kind, "numerics": NUMERICS, **parts}, DIGITS)

"""The weights that an encoder starts from: found or downloaded, and hashed for its key."""

from __future__ import annotations

from pathlib import Path

from ssl3d.errors import UserError, WeightsError
from ssl3d.recipe import EncoderRecipe, digest
from ssl3d.registry import split_variant
from ssl3d.train.build import backbone_class
from ssl3d.weights.files import check_published, file_hash, local, published_file, published_path


def weights_hash(recipe: EncoderRecipe, file: Path | None, fetch: bool = True) -> tuple[str | None, UserError | None]:
    """Return the SHA-256 of the weights that an encoder starts from, and the error if they are unavailable.

    Args:
        recipe: recipe of the encoder.
        file: local file of weights, used in place of the one that the recipe names.
        fetch: download weights that are not in the weights folder.

    Returns:
        (None, None) if it starts from none. For unavailable weights, the hash is that of their name.
    """
    init = recipe.init
    if init is None:
        return None, None
    try:
        if file is not None or init.sha256 is not None:
            return file_hash(file or local(init.name)), None
        return file_hash(_published(recipe, init.name, fetch)), None
    except UserError as error:
        return init.sha256 or digest([init.name, _address(recipe, init.name)], 64), error


def _published(recipe: EncoderRecipe, name: str, fetch: bool) -> Path:
    kind = backbone_class(recipe.backbone)
    weights, variant = kind.weights[name], kind.published_variant(split_variant("backbones", recipe.backbone)[1])
    path = published_path(weights, variant)
    if fetch:
        return published_file(weights, variant)
    if not path.is_file():
        raise WeightsError(f"{path} is not there yet; it is downloaded from {weights.url.format(variant=variant)}")
    check_published(weights, variant, path)
    return path


def _address(recipe: EncoderRecipe, name: str) -> str:
    return backbone_class(recipe.backbone).weights[name].url

"""The published weights that an encoder starts from: found or downloaded, and hashed for its key."""

from __future__ import annotations

from pathlib import Path

from ssl3d.errors import UserError, WeightsError
from ssl3d.pretrained import check_published, published_file, weights_folder
from ssl3d.recipe import EncoderRecipe, digest
from ssl3d.registry import split_variant
from ssl3d.results.records import file_sha256
from ssl3d.train.build import backbone_class, method_class


def weights_hash(recipe: EncoderRecipe, file: Path | None, fetch: bool = True) -> tuple[str | None, UserError | None]:
    """Return the SHA-256 of the weights that an encoder starts from, and the error if they are unavailable.

    Args:
        recipe: recipe of the encoder.
        file: local file of weights, used instead of a download.
        fetch: download weights that are not in the weights folder.

    Returns:
        (None, None) if it starts from none. For unavailable weights, the hash is that of their name.
    """
    name = method_class(recipe.method).initial_weights
    if name is None:
        return None, None
    weights = backbone_class(recipe.backbone).weights[name]
    try:
        variant = split_variant("backbones", recipe.backbone)[1]
        path = file or weights_folder() / weights.file.format(variant=variant)
        if file is None and fetch:
            path = published_file(weights, variant)
        if not path.is_file():
            raise WeightsError(f"no such weights file: {path}; give the path of a .pth, .pyth or .safetensors file")
        if file is None and not fetch:
            check_published(weights, variant, path)
        return file_sha256(path), None
    except UserError as error:
        return digest([name, weights.url], 64), error

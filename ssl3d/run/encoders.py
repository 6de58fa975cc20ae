"""The encoder that a cell leaves: written as safetensors, built again from the cell's own record."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from ssl3d.backbone import Backbone
from ssl3d.errors import RunError
from ssl3d.recipe import Recipe
from ssl3d.results.folder import cells_folder
from ssl3d.results.records import read_result
from ssl3d.results.sources import check_sources
from ssl3d.train.build import build_backbone

NAME = "encoder.safetensors"


def save_encoder(folder: Path, encoder: Backbone, recipe: Recipe) -> None:
    """Write an encoder's weights and buffers, with its recipe as metadata, whole or not at all."""
    state = {name: value.detach().cpu().contiguous().clone() for name, value in encoder.state_dict().items()}
    temporary = folder / f".{NAME}"
    temporary.write_bytes(save(state, metadata={"recipe": recipe.canonical()}))  # one name: a kill leaves no litter
    temporary.replace(folder / NAME)


def load_encoder(cell: str | Path) -> Backbone:
    """Return the pretrained encoder of a cell, in evaluation mode.

    It takes volumes (B, 1, D, H, W), standardised, and returns features (B, embed_dim). Its plugins are imported by the
    names that the cell recorded, so load cells only from people whose code you would run.

    Args:
        cell: the folder of a cell, ``runs/NAME/cells/CELL``.

    Raises:
        RunError: the cell has no result or no encoder, the file is damaged or does not fit, or a plugin that was named
            by its file is gone or was edited.
    """
    folder = Path(cell)
    if cells_folder(folder).is_dir():
        raise RunError(f"{folder} is a run; name one of its cells, below {cells_folder(folder)}")
    result, _ = read_result(folder)
    path = folder / NAME
    if not path.is_file():
        raise RunError(f"{path} is not there: the cell {result.status} without an encoder; run it again")
    check_sources(result.recipe)
    encoder = build_backbone(result.recipe, initialise=False)
    try:
        encoder.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise RunError(f"{path} does not hold this cell's encoder ({str(error).splitlines()[0]})") from None
    return encoder.eval()

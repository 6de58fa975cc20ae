"""One view of a batch of volumes."""

from __future__ import annotations

from torch import Tensor

from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes
from ssl3d.recipe import AugmentRecipe


class Augment:
    """Makes a view: a random crop, resampled once, with intensity changes. See :class:`ssl3d.recipe.AugmentRecipe`.

    Args:
        recipe: what to do.
        size: (D, H, W) of a view.
    """

    def __init__(self, recipe: AugmentRecipe | None = None, size: tuple[int, int, int] = (16, 112, 112)) -> None:
        self.recipe = recipe or AugmentRecipe()
        self.size = size

    def __call__(self, volumes: Volumes, rng: Rng) -> Tensor:
        """Return a view (B, C, D, H, W), float32, standardised by each volume's mean and standard deviation."""
        raise NotImplementedError


def whole(volumes: Volumes, size: tuple[int, int, int]) -> Tensor:
    """Return the whole volumes (B, C, D, H, W) at one size, standardised, nothing random: what is judged."""
    raise NotImplementedError

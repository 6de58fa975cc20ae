"""Small volumes of unequal shapes, never cubes, and recipes for views of them."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl3d.data.volumes import Volumes
from ssl3d.recipe import AugmentRecipe

PLAIN = AugmentRecipe(brightness=0, contrast=0, gamma=0, blur=0, noise=0, flip=(0, 0, 0), rotate=0)
EVERYTHING = AugmentRecipe(flip=(0.5, 0.5, 0.5), rotate=40, blur=0.7, slice_dropout=0.4)
SIZE = (5, 13, 11)
SHAPES = [(9, 30, 41), (4, 12, 10), (1, 25, 19), (7, 1, 33), (6, 22, 1), (1, 1, 1), (23, 40, 36)]


def volumes(*shapes: tuple[int, ...], dtype: torch.dtype = torch.uint8, seed: int = 0) -> Volumes:
    generator = torch.Generator().manual_seed(seed)
    full = [shape if len(shape) == 4 else (1, *shape) for shape in shapes]
    return batch(*(torch.randint(0, 256, shape, generator=generator).to(dtype) for shape in full))


def batch(*voxels: Tensor, mean: float | None = None, std: float | None = None) -> Volumes:
    means = [v.double().mean().item() if mean is None else mean for v in voxels]
    stds = [(v.double().std(correction=0).item() or 1.0) if std is None else std for v in voxels]
    return Volumes(voxels, torch.tensor(means), torch.tensor(stds))

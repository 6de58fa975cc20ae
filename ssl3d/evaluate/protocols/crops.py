"""Views of a volume for evaluation, whose predictions are averaged: the whole volume, then crops at fixed positions.

There is no randomness: the positions depend only on their number, and are equal for all methods, runs and volumes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ssl3d.data.augment import View, whole
from ssl3d.data.geometry import Size
from ssl3d.data.volumes import Volumes

SHARE = 0.9  # fraction of every axis that a crop keeps: about the smallest used in fine-tuning
CORNERS = ((0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0))  # in-plane, in turn: opposite ones follow each other


def fixed_crops(count: int) -> list[View]:
    """Return ``count`` crops, spread evenly over the depth, each in the next in-plane corner."""
    room = 1 - SHARE
    return [
        View(SHARE, SHARE, *CORNERS[i % len(CORNERS)], depth=SHARE, start=room * (i + 0.5) / count)
        for i in range(count)
    ]


def evaluation_views(volumes: Volumes, size: Size, count: int) -> Iterator[Tensor]:
    """Yield ``count`` standardised views (B, C, D, H, W) of volumes: the whole ones, then crops.

    Args:
        volumes: B volumes.
        size: (D, H, W) of a view.
        count: 1 or more.
    """
    yield whole(volumes, size)
    for view in fixed_crops(count - 1):
        rows = zip(volumes.voxels, volumes.mean, volumes.std, strict=True)
        with torch.no_grad(), torch.autocast(volumes.device.type, enabled=False):
            yield torch.stack([view.of(voxels, mean, std, size) for voxels, mean, std in rows])

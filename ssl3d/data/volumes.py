"""A batch of volumes as read from the store: ragged in depth, in the source's own dtype."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Volumes:
    """B volumes of unequal size.

    Attributes:
        voxels: B tensors (C, D, H, W), uint8 or floating, on the device.
        mean: (B,) float32, mean of each volume's voxels.
        std: (B,) float32, their standard deviation; 1 if a volume is constant.
    """

    voxels: tuple[Tensor, ...]
    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return len(self.voxels)

    @property
    def device(self) -> torch.device:
        """Device of the voxels."""
        return self.voxels[0].device

"""The smallest things that satisfy the contracts: what plugins are checked with, and tests too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from ssl3d.backbone import Backbone, BackboneConfig
from ssl3d.card import Card
from ssl3d.data.augment import Augment
from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes

SIZE = (4, 9, 7)  # anisotropic, and no two axes alike


class ToyBackbone(Backbone):
    """Two convolutions; ``norm`` chooses what stands between them, ``dropout`` draws at random."""

    card: ClassVar[Card] = Card("Toy", "two convolutions")
    embed_dim = 6

    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None, dropout: float = 0.0) -> None:
        super().__init__(config, variant)
        norm = nn.BatchNorm3d(4) if self.config.norm == "batch" else nn.GroupNorm(2, 4)
        self.first = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), norm, nn.GELU(), nn.Dropout(dropout))
        self.second = nn.Conv3d(4, 6, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return maps (B, 4, D, H, W) and (B, 6, D, H/2, W/2), rounded up."""
        first = self.first(x)
        return [first, self.second(first)]


class NoisyAugment(Augment):
    """Standardises and adds voxel noise: random, yet cheap and exact in float64."""

    def __init__(self) -> None:
        super().__init__(size=SIZE)

    def __call__(self, volumes: Volumes, rng: Rng) -> Tensor:
        """Return a view (B, 1, D, H, W) of volumes that have the toy size."""
        shift = [(voxels - m) / s for voxels, m, s in zip(volumes.voxels, volumes.mean, volumes.std, strict=True)]
        return torch.stack(shift) + 0.3 * rng.normal((1, *SIZE))


class ToySource:
    """Volumes of random noise, in memory, fresh copies each time."""

    def __init__(self, count: int = 16, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.data: Sequence[Tensor] = torch.rand((count, 1, *SIZE), generator=generator).unbind()

    def volumes(self, indices: Sequence[int], device: torch.device = torch.device("cpu")) -> Volumes:  # noqa: B008
        """Return the volumes with these numbers."""
        voxels = tuple(self.data[index].to(device, copy=True) for index in indices)
        mean = torch.stack([voxel.float().mean() for voxel in voxels])
        return Volumes(voxels, mean, torch.stack([voxel.float().std() for voxel in voxels]))


class RaggedSource(ToySource):
    """The same as a packed store gives it: 8-bit, and every volume with a shape of its own."""

    def __init__(self, count: int = 16, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        shapes = [(1, 3 + number % 4, 10 + number % 3, 11 - number % 2) for number in range(count)]
        self.data = [torch.randint(256, shape, generator=generator, dtype=torch.uint8) for shape in shapes]

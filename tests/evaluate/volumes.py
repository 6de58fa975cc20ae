"""A small network and small volumes, for tests of features and fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ssl3d.backbone import Backbone
from ssl3d.card import Card
from ssl3d.data.volumes import Volumes

CPU = torch.device("cpu")
SIZE = (3, 8, 10)
N = 36
TRAIN, TEST = list(range(24)), list(range(24, N))


class Small(Backbone):
    """A convolution with batch norm (running statistics to spoil) and dropout (random state to move)."""

    card: ClassVar[Card] = Card("small", "for tests")
    embed_dim = 5

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.conv = nn.Conv3d(1, 5, 3, padding=1)
        self.norm = nn.BatchNorm3d(5)
        self.drop = nn.Dropout(0.1)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        return [self.drop(self.norm(self.conv(x)).relu())]


class Stripes:
    """Volumes of unequal depth, with horizontal stripes in class 0 and vertical ones in class 1; records its reads."""

    def __init__(self) -> None:
        self.labels = np.arange(N) % 2
        self.read: list[int] = []
        rng = np.random.default_rng(0)
        self.voxels = []
        for i, label in enumerate(self.labels):
            wave = (np.arange(12)[:, None] if label else np.arange(14)[None]) // 3 % 2 * 120
            noise = rng.integers(0, 90, (1, 4 + i % 3, 12, 14))
            self.voxels.append(torch.from_numpy((wave + noise).astype(np.uint8)))

    def volumes(self, indices: Sequence[int], device: torch.device) -> Volumes:
        self.read += indices
        voxels = tuple(self.voxels[i].to(device) for i in indices)
        flat = [v.float() for v in voxels]
        return Volumes(voxels, torch.stack([v.mean() for v in flat]), torch.stack([v.std() for v in flat]))


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and buffers."""
    return {name: value.clone() for name, value in module.state_dict().items()}

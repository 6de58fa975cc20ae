"""VoxelGrid and VolumeStatistics: features computed without a network, as controls.

A score that voxels or the size of the foreground also reach says nothing about an encoder. Both have one parameter, a
factor that starts at 1, so that they run like any other backbone.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl3d.backbone import Backbone, BackboneConfig
from ssl3d.card import Card

GRID = (8, 16, 16)  # (D, H, W) that volumes are averaged to
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
BINS = 16  # of the histogram between the 1st and the 99th percentile


class _Control(Backbone):
    """A fixed function of the volume, times a factor."""

    readout_names = ("last",)
    min_size = (4, 8, 8)

    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        self.factor = nn.Parameter(torch.ones(()))

    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Return the features (B, F), the only read-out: there are no stages."""
        return {"last": self(x)}


class VoxelGrid(_Control):
    """The volume itself, averaged to 8 x 16 x 16."""

    card: ClassVar[Card] = Card(
        "VoxelGrid",
        "no network: the volume averaged to 8 x 16 x 16",
        departures=("Its one map is the averaged volume, and its features are that map's voxels.",),
    )
    embed_dim = GRID[0] * GRID[1] * GRID[2]

    def forward(self, x: Tensor) -> Tensor:
        """Return the averaged voxels (B, 2048)."""
        return self.forward_features(x)[0].flatten(1)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the averaged volume (B, 1, 8, 16, 16)."""
        return [self.factor * F.adaptive_avg_pool3d(x, GRID)]


class VolumeStatistics(_Control):
    """Intensities, and size, place and shape of the foreground.

    The foreground is the set of voxels above the midpoint of the 1st and the 99th percentile. The features are nine
    quantiles, four moments and a histogram of the intensities; fraction, centre and spread along D, H, W of the
    foreground; and the mean difference of neighbours along each axis.
    """

    card: ClassVar[Card] = Card(
        "VolumeStatistics", "no network: intensities of the volume, and size, place and shape of its foreground"
    )
    embed_dim = len(QUANTILES) + 4 + BINS + 7 + 3

    def forward(self, x: Tensor) -> Tensor:
        """Return the statistics (B, 39)."""
        values = x.float().flatten(1)  # (B, n)
        quantiles = _quantiles(values)  # (B, 9)
        low, high = quantiles[:, 1:2], quantiles[:, 7:8]
        found = [quantiles, _moments(values), _histogram(values, low, high)]
        found += [_foreground((x.float() > ((low + high) / 2)[:, :, None, None, None]).float()), _roughness(x.float())]
        return self.factor * torch.cat(found, dim=1)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the statistics as one map of one voxel, (B, 39, 1, 1, 1)."""
        return [self(x)[:, :, None, None, None]]


def _quantiles(values: Tensor) -> Tensor:
    """Return the quantiles (B, 9), each the value at the nearest rank."""
    places = [round(share * (values.shape[1] - 1)) for share in QUANTILES]
    return values.sort(dim=1).values[:, places]


def _moments(values: Tensor) -> Tensor:
    """Return mean, standard deviation, skewness and kurtosis (B, 4); for a constant volume the last two are 0."""
    mean, std = values.mean(dim=1, keepdim=True), values.std(dim=1, keepdim=True)
    scaled = (values - mean) / std.clamp_min(1e-6)
    return torch.cat([mean, std, *(scaled.pow(power).mean(dim=1, keepdim=True) for power in (3, 4))], dim=1)


def _histogram(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the fraction of voxels (B, 16) in equal bins from low to high (B, 1), with outliers in the end bins."""
    step = ((values - low) / (high - low).clamp_min(1e-6) * BINS).long().clamp(0, BINS - 1)  # (B, n)
    counts = torch.zeros(len(values), BINS, device=values.device).scatter_add_(1, step, torch.ones_like(values))
    return counts / values.shape[1]


def _foreground(mask: Tensor) -> Tensor:
    """Return fraction, centre and spread (as fractions of each axis) of a mask (B, 1, D, H, W): (B, 7)."""
    found = [mask.mean(dim=(2, 3, 4))]
    for axis in (2, 3, 4):
        others = [other for other in (2, 3, 4) if other != axis]
        weight = mask.sum(dim=others).flatten(1)  # (B, size)
        weight = weight / weight.sum(dim=1, keepdim=True).clamp_min(1)
        place = (torch.arange(weight.shape[1], device=mask.device) + 0.5) / weight.shape[1]
        centre = (weight * place).sum(dim=1, keepdim=True)
        found += [centre, (weight * (place - centre).square()).sum(dim=1, keepdim=True).sqrt()]
    return torch.cat(found, dim=1)


def _roughness(x: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbours along each axis, (B, 3)."""
    return torch.cat([x.diff(dim=axis).abs().mean(dim=(2, 3, 4)) for axis in (2, 3, 4)], dim=1)

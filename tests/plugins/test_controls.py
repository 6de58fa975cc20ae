"""Controls without a network: what they compute, on volumes whose voxels, foreground and intensities are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ssl3d_plugins.backbones.voxels import BINS, QUANTILES, VolumeStatistics, VoxelGrid

SIZE = (16, 32, 32)


def box(low: tuple[int, int, int], high: tuple[int, int, int]) -> Tensor:
    """A volume (1, 1, D, H, W) of 0, with 1 inside a box."""
    volume = torch.zeros(1, 1, *SIZE)
    volume[0, 0, low[0] : high[0], low[1] : high[1], low[2] : high[2]] = 1
    return volume


@torch.no_grad()
def test_voxels_are_means_of_blocks() -> None:
    x = torch.randn(2, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    blocks = x.reshape(2, 8, 2, 16, 2, 16, 2).mean(dim=(2, 4, 6))  # (2, 8, 16, 16)
    torch.testing.assert_close(VoxelGrid()(x), blocks.flatten(1))
    assert VoxelGrid.embed_dim == blocks[0].numel()


@torch.no_grad()
def test_statistics_of_intensities_are_those_of_scipy() -> None:
    x = torch.randn(2, 1, *SIZE, generator=torch.Generator().manual_seed(0)).exp()
    found, values = VolumeStatistics()(x).numpy(), x.flatten(1).numpy()
    quantiles = np.quantile(values, QUANTILES, axis=1, method="nearest").T
    np.testing.assert_allclose(found[:, :9], quantiles, rtol=1e-5)
    moments = [
        values.mean(1),
        values.std(1, ddof=1),
        stats.skew(values, axis=1),
        stats.kurtosis(values, 1, fisher=False),
    ]
    np.testing.assert_allclose(found[:, 9:13], np.stack(moments, 1), rtol=2e-3)
    histogram = found[:, 13 : 13 + BINS]
    np.testing.assert_allclose(histogram.sum(1), 1, rtol=1e-5)
    low, high = quantiles[0, 1], quantiles[0, 7]
    inner = np.histogram(values[0], np.linspace(low, high, BINS + 1))[0][1:-1] / len(values[0])
    np.testing.assert_allclose(histogram[0, 1:-1], inner, atol=2e-4)


@torch.no_grad()
def test_the_foreground_has_its_share_centre_and_spread() -> None:
    x = box((4, 8, 16), (12, 24, 32))
    share, *places = VolumeStatistics()(x)[0, 13 + BINS : 13 + BINS + 7].tolist()
    assert share == pytest.approx(8 * 16 * 16 / (16 * 32 * 32))
    assert places[0::2] == pytest.approx([0.5, 0.5, 0.75])
    spread = [np.std((np.arange(n) + 0.5) / size) for n, size in ((8, 16), (16, 32), (16, 32))]
    assert places[1::2] == pytest.approx(spread, rel=1e-4)


@torch.no_grad()
def test_a_constant_volume_is_finite() -> None:
    assert VolumeStatistics()(torch.full((1, 1, *SIZE), 3.0)).isfinite().all()

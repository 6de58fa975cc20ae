"""Corruptions against their definitions: shuffled windows, intensity curves, boxes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl3d.data.corruption import LEVELS, box_mask, intensity_curve, map_intensities, shuffle_windows

SIZE = (22, 31, 40)


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def coordinates() -> Tensor:
    """Return a view whose voxels hold their own places, (3, D, H, W)."""
    return torch.stack(torch.meshgrid(*map(torch.arange, SIZE), indexing="ij"))


def test_windows_are_shuffled_as_one_after_the_other_would_be() -> None:
    view, windows, draw = coordinates(), 300, draws()
    most = np.array(SIZE) // 10
    sides, starts = torch.rand(2, windows, 3, generator=draw, dtype=torch.float64).numpy()
    sides = 1 + np.floor(sides * most).astype(int)
    starts = np.floor(starts * (np.array(SIZE) - sides + 1)).astype(int)
    keys = torch.rand(int(sides.prod(axis=1).sum()), generator=draw, dtype=torch.float64).numpy()
    expected, used = view.clone(), 0
    for start, side in zip(starts, sides, strict=True):
        places = [tuple(start + offset) for offset in itertools.product(*map(range, side))]
        order = keys[used : used + len(places)].argsort()
        used += len(places)
        for place, source in zip(places, order, strict=True):
            expected[:, *place] = view[:, *places[source]]
    shuffled = shuffle_windows(view, windows, draws())
    assert torch.equal(shuffled, expected)
    assert not torch.equal(shuffled, view)


def test_shuffled_voxels_stay_within_a_tenth_of_the_view_and_one_window_loses_none() -> None:
    moved = (shuffle_windows(coordinates(), 20_000, draws()) - coordinates()).abs()
    assert moved.flatten(1).amax(dim=1).tolist() == [1, 2, 3]  # windows of up to 2 x 3 x 4 voxels
    assert 0.7 < (moved.sum(0) > 0).float().mean() < 1
    once = shuffle_windows(coordinates(), 1, draws())
    numbers = [(one[0] * SIZE[1] * SIZE[2] + one[1] * SIZE[2] + one[2]).flatten() for one in (once, coordinates())]
    assert torch.equal(numbers[0].sort().values, numbers[1])
    thin = torch.rand(1, 5, 9, 9)
    assert torch.equal(shuffle_windows(thin, 100, draws()), thin)  # windows of one voxel


@pytest.mark.parametrize("rising", [True, False])
def test_a_curve_is_a_bezier_curve_by_repeated_interpolation(rising: bool) -> None:
    points = np.random.default_rng(0).random((5, 4))
    for row in points:
        control = np.array([(0.0, 0.0), row[:2], row[2:], (1.0, 1.0)])
        found = []
        for t in np.linspace(0, 1, 5000):
            line = control
            while len(line) > 1:  # de Casteljau
                line = line[:-1] + t * (line[1:] - line[:-1])
            found.append(line[0])
        x, y = np.array(found).T
        y = np.sort(y) if rising else y[::-1]
        expected = np.interp(np.linspace(0, 1, LEVELS), np.sort(x), y)
        np.testing.assert_allclose(intensity_curve(row, rising), expected, atol=2e-3)


def test_ends_of_curves_and_values_between_levels() -> None:
    even = np.array([1 / 3, 1 / 3, 2 / 3, 2 / 3])  # the straight line
    up, down = (intensity_curve(even, rising) for rising in (True, False))
    np.testing.assert_allclose(up, np.linspace(0, 1, LEVELS), atol=1e-12)
    np.testing.assert_allclose(down, np.linspace(1, 0, LEVELS), atol=1e-12)
    values = torch.rand(2, 1, 3, 4, 5, dtype=torch.float64)
    values[0, 0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    mapped = map_intensities(values, torch.from_numpy(np.stack([up, down**2])))
    torch.testing.assert_close(mapped[0], values[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(mapped[1], (1 - values[1]) ** 2, rtol=0, atol=1e-6)


def test_boxes_are_cut_at_the_edges() -> None:
    start, side = np.array([[[-1, 2, 0]], [[1, 4, 3]]]), np.array([[[2, 2, 4]], [[2, 9, 1]]])
    expected = torch.zeros(2, 1, 3, 5, 4, dtype=torch.bool)
    expected[0, 0, :1, 2:4] = True
    expected[1, 0, 1:, 4:, 3:] = True
    assert torch.equal(box_mask(start, side, (3, 5, 4), torch.device("cpu")), expected)

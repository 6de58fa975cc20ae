"""Corruptions of volumes, for methods that learn to restore them: shuffled windows, intensity curves, boxes.

From Zhou et al. 2019, Models Genesis, https://arxiv.org/abs/1908.06912.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl3d.data.geometry import Size

LEVELS = 1024  # intensities at which a curve is tabulated
WINDOW = 10  # the longest window is a view's size over this


def shuffle_windows(view: Tensor, windows: int, draws: torch.Generator) -> Tensor:
    """Return a view whose voxels are permuted within windows; where windows overlap, the last one counts.

    Windows have sides of 1 to a tenth of the view's. Each permutes the voxels of the original view.

    Args:
        view: (C, D, H, W); channels are permuted alike.
        windows: number of windows.
        draws: generator on the view's device.
    """
    size = torch.tensor(view.shape[1:], device=view.device)
    most = (size // WINDOW).clamp(min=1)
    side, start = torch.rand(2, windows, 3, generator=draws, device=view.device, dtype=torch.float64)
    side = (side * most).long() + 1  # (windows, 3)
    start = (start * (size - side + 1)).long()
    offsets = torch.cartesian_prod(*(torch.arange(int(n), device=view.device) for n in most))  # (offsets, 3)
    window, offset = (offsets < side[:, None]).all(dim=2).nonzero(as_tuple=True)  # (E,), window by window
    strides = torch.tensor([view.shape[2] * view.shape[3], view.shape[3], 1], device=view.device)
    place = ((start[window] + offsets[offset]) * strides).sum(dim=1)  # (E,), index of the voxel
    order = (window + torch.rand(len(window), generator=draws, device=view.device, dtype=torch.float64)).argsort()
    number = torch.arange(len(place), device=view.device)
    last = torch.full((view[0].numel(),), -1, device=view.device).scatter_reduce_(0, place, number, "amax")
    flat = view.flatten(1)
    return torch.where(last >= 0, flat[:, place[order][last.clamp(min=0)]], flat).view_as(view)


def intensity_curve(points: NDArray[np.float64], rising: bool) -> NDArray[np.float64]:
    """Return the values of a curve at equally spaced intensities from 0 to 1, (LEVELS,).

    The curve is a cubic Bezier curve from (0, 0) to (1, 1); if it does not rise, its values are in reverse order.

    Args:
        points: both inner control points, x and y each, (4,).
        rising: sort the values of the curve.
    """
    t = np.linspace(0, 1, LEVELS)
    first, second = 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2
    x, y = (first * points[axis] + second * points[2 + axis] + t**3 for axis in range(2))
    values: NDArray[np.float64] = np.interp(t, np.sort(x), np.sort(y) if rising else y[::-1])
    return values


def map_intensities(values: Tensor, curves: Tensor) -> Tensor:
    """Return intensities mapped by a curve per volume, by linear interpolation.

    Args:
        values: (B, ...), in [0, 1].
        curves: values at equally spaced intensities from 0 to 1, (B, LEVELS).
    """
    place = values.flatten(1) * (curves.shape[1] - 1)
    left = place.long().clamp(0, curves.shape[1] - 2)  # (B, voxels)
    below, above = curves.gather(1, left), curves.gather(1, left + 1)
    return (below + (above - below) * (place - left)).view_as(values)


def box_mask(start: NDArray[np.integer], side: NDArray[np.integer], size: Size, device: torch.device) -> Tensor:
    """Return masks of boxes, true inside; what lies beyond the volume is cut off.

    Args:
        start: first voxel along D, H, W, (..., 3).
        side: number of voxels along D, H, W, (..., 3).
        size: (D, H, W) of the volume.
        device: of the result.

    Returns:
        Booleans (..., D, H, W).
    """
    d, h, w = (
        (start[..., axis, None] <= place) & (place < (start + side)[..., axis, None])  # (..., D), (..., H), (..., W)
        for axis, place in enumerate(map(np.arange, size))
    )
    inside = [torch.from_numpy(one).to(device) for one in (d, h, w)]
    return inside[0][..., :, None, None] & inside[1][..., None, :, None] & inside[2][..., None, None, :]

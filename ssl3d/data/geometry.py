"""The position of a view's voxels in its volume, and sampling of the volume there: once, directly from its dtype.

Coordinates are continuous: slice, row or column i covers [i, i + 1) and has its centre at i + 0.5, so a crop of
[0, n) resized to any size is the whole axis (``align_corners=False``). Rotation is always in-plane, so the trilinear
mapping is exactly an in-plane bilinear one followed by a linear one along depth, and is computed in this way. Views
without rotation take the same path: two separable in-plane passes are no faster.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Size = tuple[int, int, int]
CACHED = 2**19  # voxels that a CPU converts and samples at once, to fit in its cache


def depth_weights(
    slices: int, n: int, share: float = 1.0, start: float = 0.0, flip: bool = False
) -> NDArray[np.float32]:
    """Return the weights (slices, n) that make the slices of a view from the n slices of a volume.

    A view keeps ``share`` of the depth: one run of slices is left out, and the rest, in order, is spread over the view.
    The run starts at a position on the circle formed by joining the ends of the depth axis. If it spans the joint, an
    ordinary crop remains; otherwise the view contains both ends and steps over the run. With uniform starts, every
    slice is left out equally often (``depth_gap``). No contiguous crop of more than half a volume can do this: it
    always contains the middle, and never both ends. A start of at most ``1 - share`` gives a contiguous crop.

    Weights are linear interpolation, widened to the slice step of the view if that exceeds one slice of the volume (a
    triangle filter against aliasing). The parts beyond the ends are mirrored, so the outer slices have as much weight
    as the others.

    Args:
        slices: number of slices of the view.
        n: number of slices of the volume.
        share: fraction of the depth that is kept, in (0, 1].
        start: start of the kept part on the circle, in [0, 1).
        flip: reverse the order.
    """
    step = share * n / slices
    z = np.arange(0.5, slices) * step  # within the kept part
    wrapped = start + share - 1.0  # share of the depth kept at the lower end, when the kept part wraps
    z[z >= wrapped * n] += (1.0 - share if wrapped > 0 else start) * n
    distance = np.abs(z[:, None] - np.arange(0.5 - n, 2 * n))  # (slices, 3n): below the volume, inside, above
    triangle = np.maximum(max(step, 1.0) - distance, 0.0)
    weights = triangle[:, n : 2 * n] + triangle[:, n - 1 :: -1][:, :n] + triangle[:, : 2 * n - 1 : -1]  # (slices, n)
    weights /= weights.sum(axis=1, keepdims=True)
    rounded: NDArray[np.float32] = weights.astype(np.float32)
    return rounded[::-1] if flip else rounded


def depth_box(share: float, start: float) -> tuple[float, float]:
    """Return the first and last position that :func:`depth_weights` keeps, as fractions of the depth."""
    return (start, start + share) if start + share <= 1.0 else (0.0, 1.0)


@dataclass(frozen=True)
class Crop:
    """The rectangle of each slice that is shown in a view.

    Attributes:
        centre: (y, x), in rows and columns.
        extent: height and width, in rows and columns; negative if flipped.
        angle: rotation about the centre, in radians.
    """

    centre: tuple[float, float]
    extent: tuple[float, float]
    angle: float = 0.0

    def axes(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return how far y and x each move over the height and over the width of the view."""
        (h, w), cos, sin = self.extent, math.cos(self.angle), math.sin(self.angle)
        return (cos * h, -sin * w), (sin * h, cos * w)

    def shrink(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return how many whole rows and columns of the volume correspond to one of the view."""
        return max(1, int(abs(self.extent[0]) / size[0])), max(1, int(abs(self.extent[1]) / size[1]))


def resample(
    volume: Tensor, weights: NDArray[np.float32], crop: Crop, out: Tensor, scale: Tensor | float = 1.0
) -> None:
    """Write the view (C, slices, H, W) of a volume (C, D, H0, W0), with the values multiplied by ``scale``.

    Only the slices with a weight, cropped to the box around the rectangle, are converted to floating point. If the crop
    shrinks by k or more, k an integer, the box is first averaged over k x k voxels against aliasing. Corners that a
    rotation moves outside the volume repeat its border.

    Args:
        volume: (C, D, H0, W0), of any dtype.
        weights: (slices, D), from :func:`depth_weights`.
        crop: the part of each slice to show.
        out: (C, slices, H, W), contiguous float32, the view.
        scale: a scalar, applied to the weights at no cost.
    """
    used: NDArray[np.bool_] = np.any(weights > 0, axis=0)  # (D,)
    size = (out.shape[2], out.shape[3])
    pool = crop.shrink(size)
    (y0, y1), (x0, x1) = (_span(crop, axis, volume.shape[2 + axis], pool[axis]) for axis in (0, 1))
    box = volume[:, :, y0:y1, x0:x1]
    grid = _grid(crop, (y0, x0), (y1 - y0, x1 - x0), size, volume.device)
    most = max(1, CACHED // (box[:, 0].numel())) if volume.device.type == "cpu" else len(used)
    flat = [_sampled(_summed(box[:, low:high], pool), grid) for low, high in _runs(used, most)]
    mixing = torch.from_numpy(weights[:, used]).to(volume.device, non_blocking=True) * (scale / math.prod(pool))
    planes = torch.cat(flat, dim=1) if len(flat) > 1 else flat[0]  # (C, d, H * W)
    torch.matmul(mixing, planes, out=out.view(len(out), len(weights), -1))


def _runs(used: NDArray[np.bool_], most: int) -> Iterator[tuple[int, int]]:
    """Yield [low, high) of each run of true values, in pieces of at most ``most``."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], used, [False])).astype(np.int8)))
    for low, high in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        pieces = math.ceil((high - low) / most)
        cuts = [low + (high - low) * piece // pieces for piece in range(pieces + 1)]
        yield from pairwise(cuts)


def _span(crop: Crop, axis: int, n: int, pool: int) -> tuple[int, int]:
    """Return the rows (axis 0) or columns (1) [low, high) of the rectangle, a multiple of ``pool`` in number."""
    reach = sum(abs(part) for part in crop.axes()[axis]) / 2
    low = min(max(math.floor(crop.centre[axis] - reach - 0.5 * pool), 0), n - 1)
    high = min(max(math.ceil(crop.centre[axis] + reach + 0.5 * pool), low + 1), n)
    count = min(math.ceil((high - low) / pool), n // pool) * pool
    low = min(low, n - count)
    return low, low + count


def _summed(box: Tensor, pool: tuple[int, int]) -> Tensor:
    """Sum (C, d, h, w) over pool[0] x pool[1] voxels, float32.

    A few strided sums, four times as fast as ``avg_pool2d``. Rows of 8-bit voxels are added as 16-bit integers, which
    is equally exact and moves half the memory.
    """
    short = box.dtype == torch.uint8 and 1 < pool[0] <= 2**15 // 255
    rows = _adjacent(box.to(torch.int16 if short else torch.float32), 2, pool[0])
    return _adjacent(rows.to(torch.float32), 3, pool[1])


def _sampled(box: Tensor, grid: Tensor) -> Tensor:
    """Sample the slices (C, d, h, w) at (1, H, W, 2); return (C, d, H * W)."""
    C, d, h, w = box.shape
    sampled = F.grid_sample(
        box.reshape(1, C * d, h, w), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled.view(C, d, -1)


def _adjacent(box: Tensor, axis: int, count: int) -> Tensor:
    """Sum every ``count`` neighbours along an axis, whose length is a multiple of it."""
    parts = [box[(slice(None),) * axis + (slice(first, None, count),)] for first in range(count)]
    return sum(parts[1:], start=parts[0])


def _grid(
    crop: Crop, corner: tuple[int, int], covered: tuple[int, int], size: tuple[int, int], device: torch.device
) -> Tensor:
    """Return the grid (1, H, W, 2) for ``grid_sample`` on a box.

    Args:
        crop: the part that the view shows.
        corner: row and column of the volume where the box begins.
        covered: rows and columns of the volume that the box covers, before averaging.
        size: (H, W) of the view.
        device: device of the grid.
    """
    v, u = (_places(n, device) for n in size)  # (H,), (W,)
    grid = torch.empty(1, *size, 2, dtype=torch.float32, device=device)
    for axis, (down, across) in enumerate(crop.axes()):
        scale = 2.0 / covered[axis]  # grid_sample: -1 and 1 are the outer edges of the box
        offset = (crop.centre[axis] - corner[axis]) * scale - 1.0
        torch.add((v * (down * scale) + offset)[:, None], u, alpha=across * scale, out=grid[0, :, :, 1 - axis])
    return grid


@cache
def _places(n: int, device: torch.device) -> Tensor:
    """Return the centres (n,) of n equal parts of [-0.5, 0.5]; must not be modified."""
    return (torch.arange(n, dtype=torch.float32, device=device) + 0.5) / n - 0.5

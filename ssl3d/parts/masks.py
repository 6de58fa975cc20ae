"""Blocks of neighbouring patches on the grid of a volume: what methods mask and predict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ssl3d.parts.tokens import Size

LEAST = 4  # patches of a block that masks, unless fewer are left to mask
BLOCK_DRAWS = 6  # random numbers that decide one block of ``block_mask``
Range = tuple[float, float]


def block(grid: Size, shape: Size, place: Sequence[float]) -> NDArray[np.bool_]:
    """Return which patches of a grid, (d, h, w), lie in a block.

    Args:
        grid: patches along D, H, W.
        shape: patches of the block along D, H, W, at most those of the grid.
        place: where it starts along D, H, W, as fractions in [0, 1) of the places that there are.
    """
    inside = np.zeros(grid, bool)
    starts = [int(share * (whole - part + 1)) for share, whole, part in zip(place, grid, shape, strict=True)]
    inside[tuple(slice(start, start + part) for start, part in zip(starts, shape, strict=True))] = True
    return inside


def block_mask(grid: Size, count: int, draws: NDArray[np.float64], aspect: Range) -> NDArray[np.bool_]:
    """Return a mask (d, h, w) of at most ``count`` patches, made of blocks (BEiT, Bao et al. 2021, algorithm 1).

    A block covers between four patches and all that are left to mask. It spans a random number of the grid's slices;
    its height and width follow from a random aspect ratio. A block that would mask too many patches is left out.

    Args:
        grid: patches along D, H, W.
        count: patches to mask.
        draws: (A, 6) random numbers in [0, 1), the decisions for A blocks one after the other.
        aspect: range of a block's height to width, log-uniform.
    """
    mask = np.zeros(grid, bool)
    for size, depth, ratio, *place in draws:
        left = count - int(mask.sum())
        if left == 0:
            break
        least = min(LEAST, left)
        volume = least + size * (left - least)
        slices = 1 + int(depth * min(grid[0], volume))
        height = math.sqrt(volume / slices * aspect[0] * (aspect[1] / aspect[0]) ** ratio)
        width = volume / slices / height
        plane = [min(max(1, round(side)), most) for side, most in zip((height, width), grid[1:], strict=True)]
        both = mask | block(grid, (slices, plane[0], plane[1]), place)
        if both.sum() <= count:
            mask = both
    return mask


def equal_blocks(grid: Size, scale: Range, aspect: Range, most: int) -> list[Size]:
    """Return shapes of blocks that all have the same number of patches.

    It is the number within ``scale`` for which there are most shapes with a height to width within ``aspect``; each may
    have any depth. Where the grid is too coarse for both ranges, the shapes come as near to them as they can.

    Args:
        grid: patches along D, H, W.
        scale: range of the share of the grid that a block covers.
        aspect: range of its height to width, in patches.
        most: most patches of a block, at least 1.
    """
    found: dict[float, dict[int, list[Size]]] = {}
    for shape in _shapes(grid):
        number = math.prod(shape)
        if number <= most:
            distance = _distance(number / math.prod(grid), scale) + _distance(shape[1] / shape[2], aspect)
            found.setdefault(round(distance, 9), {}).setdefault(number, []).append(shape)
    nearest = found[min(found)]
    return nearest[max(nearest, key=lambda number: (len(nearest[number]), number))]


def _shapes(grid: Size) -> Iterator[Size]:
    yield from product(*(range(1, side + 1) for side in grid))


def _distance(value: float, bounds: Range) -> float:
    """Return how far a positive value is outside of a range, as the logarithm of a ratio; 0 inside."""
    return max(0.0, math.log(bounds[0] / value), math.log(value / bounds[1]))

"""Blocks of patches: where they lie, how many patches a mask of blocks covers, and shapes of equal size."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl3d.parts.masks import BLOCK_DRAWS, block, block_mask, equal_blocks

sides = st.integers(1, 6)
grids = st.tuples(sides, sides, sides)


def test_a_block_lies_where_its_place_says() -> None:
    first, last = block((3, 4, 5), (2, 1, 3), (0, 0, 0)), block((3, 4, 5), (2, 1, 3), (0.99, 0.99, 0.99))
    assert first[:2, :1, :3].all()
    assert last[1:, 3:, 2:].all()
    assert first.sum() == last.sum() == 6
    starts = {tuple(np.argwhere(block((1, 1, 5), (1, 1, 3), (0, 0, u)))[0]) for u in (0.1, 0.4, 0.9)}
    assert starts == {(0, 0, 0), (0, 0, 1), (0, 0, 2)}  # each a third of the draws


@settings(max_examples=60, deadline=None, derandomize=True)
@given(grid=grids, share=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_mask_of_blocks_never_covers_more_than_asked(grid: tuple[int, int, int], share: float, seed: int) -> None:
    count = int(share * prod(grid))
    mask = block_mask(grid, count, np.random.default_rng(seed).random((16, BLOCK_DRAWS)), (0.3, 1 / 0.3))
    assert mask.shape == grid
    assert mask.sum() <= count
    assert mask.any() or count < 4


def test_a_mask_of_blocks_covers_nearly_what_is_asked_in_few_pieces() -> None:
    rng, grid, count = np.random.default_rng(0), (4, 12, 12), 170
    masks = [block_mask(grid, count, rng.random((16, BLOCK_DRAWS)), (0.3, 1 / 0.3)) for _ in range(50)]
    assert np.mean([mask.sum() for mask in masks]) > 0.98 * count
    borders = [np.sum(mask[:, 1:] != mask[:, :-1]) + np.sum(mask[:, :, 1:] != mask[:, :, :-1]) for mask in masks]
    single = rng.permuted(masks[0].flatten()).reshape(grid)  # as many patches, drawn one by one
    apart = np.sum(single[:, 1:] != single[:, :-1]) + np.sum(single[:, :, 1:] != single[:, :, :-1])
    assert np.mean(borders) < 0.6 * apart


@pytest.mark.parametrize(("grid", "number"), [((3, 5, 5), 12), ((4, 14, 14), 144), ((4, 12, 12), 108)])
def test_equal_blocks_keep_to_both_ranges_where_the_grid_allows_it(grid: tuple[int, int, int], number: int) -> None:
    shapes = equal_blocks(grid, (0.15, 0.2), (0.75, 1.5), prod(grid) // 4)
    assert {prod(shape) for shape in shapes} == {number}
    assert len(set(shapes)) == len(shapes) > 1
    assert 0.15 <= number / prod(grid) <= 0.2
    assert all(0.75 <= h / w <= 1.5 for _, h, w in shapes)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(grid=grids)
def test_equal_blocks_exist_on_any_grid(grid: tuple[int, int, int]) -> None:
    most = max(1, (prod(grid) - 1) // 4)
    shapes = equal_blocks(grid, (0.15, 0.2), (0.75, 1.5), most)
    assert len({prod(shape) for shape in shapes}) == 1
    assert prod(shapes[0]) <= most
    assert all(part <= whole for shape in shapes for part, whole in zip(shape, grid, strict=True))

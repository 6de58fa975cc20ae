"""Parts of the training labels: nested, stratified, at one size, the same for every method."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ssl3d.errors import DataError, RecipeError
from ssl3d.evaluate.subsets import Subset, conditions, fractions, imbalanced
from ssl3d.recipe import EvaluateRecipe

counts = st.lists(st.integers(1, 60), min_size=2, max_size=4)
shares = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4, unique=True)
seeds = st.integers(0, 2**32 - 1)


def shuffled(sizes: list[int], seed: int = 0) -> np.ndarray:
    """Labels with so many cases of each class, in a random order."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))


def by_draw(parts: list[Subset], draw: int) -> list[Subset]:
    return [part for part in parts if part.draw == draw]


@given(counts, shares, seeds)
def test_shares_are_stratified_within_rounding_and_keep_every_class(
    sizes: list[int], wanted: list[float], seed: int
) -> None:
    labels = shuffled(sizes)
    parts = fractions(labels, [*wanted, 1.0], 2, seed)
    assert len(parts) == 2 * len(wanted)  # all labels are no part of them
    for part in parts:
        assert len(np.unique(part.indices)) == len(part.indices)
        for label, size in enumerate(sizes):
            kept = int((labels[part.indices] == label).sum())
            assert kept == 1 or abs(kept - part.labels * size) <= 0.5
            assert 1 <= kept <= size


@given(counts, shares, seeds)
def test_smaller_shares_are_nested_in_larger_ones_of_the_same_draw(
    sizes: list[int], wanted: list[float], seed: int
) -> None:
    labels = shuffled(sizes)
    for draw in range(3):
        nested = by_draw(fractions(labels, wanted, 3, seed), draw)
        for large, small in pairwise(nested):
            assert small.labels < large.labels
            assert set(small.indices) <= set(large.indices)


@given(st.integers(2, 80), st.integers(2, 80), st.lists(st.floats(0.02, 0.98), min_size=1, max_size=4, unique=True))
def test_shares_of_positives_are_met_at_the_largest_size_that_all_allow(
    negatives: int, positives: int, wanted: list[float]
) -> None:
    labels = shuffled([negatives, positives])
    try:
        parts = imbalanced(labels, wanted, 2, 0)
    except DataError:
        assume(False)
    (size,) = {len(part.indices) for part in parts}
    for part in parts:
        assert part.positives is not None
        found = int(labels[part.indices].sum())
        assert found == round(part.positives * size)
        assert 1 <= found < size
        assert part.labels == size / len(labels)
    for more in range(size + 1, len(labels) + 1):  # one label more would not do for one of the shares
        needs = [round(share * more) for share in wanted]
        assert any(n > positives or more - n > negatives or n < 1 or more - n < 1 for n in needs)


@given(seeds, st.lists(st.floats(0.05, 0.95), min_size=2, max_size=4, unique=True))
def test_positives_of_a_smaller_share_are_among_those_of_a_larger_and_negatives_the_other_way(
    seed: int, wanted: list[float]
) -> None:
    labels = shuffled([70, 40])
    for draw in range(2):
        for large, small in pairwise(by_draw(imbalanced(labels, wanted, 2, seed), draw)):
            of_large, of_small = (
                [set(part.indices[labels[part.indices] == k]) for k in (0, 1)] for part in (large, small)
            )
            assert of_small[1] <= of_large[1]
            assert of_large[0] <= of_small[0]


@given(seeds)
def test_draws_and_seeds_differ_and_come_back_the_same(seed: int) -> None:
    labels = shuffled([50, 50])
    first, again = (fractions(labels, [0.2], 3, seed) for _ in range(2))
    assert [part.indices.tolist() for part in first] == [part.indices.tolist() for part in again]
    assert len({tuple(part.indices) for part in first}) == 3
    assert not np.array_equal(first[0].indices, fractions(labels, [0.2], 1, seed + 1)[0].indices)


def test_conditions_have_names_and_come_in_the_order_of_the_recipe() -> None:
    recipe = EvaluateRecipe(labels=(0.01, 0.1, 1.0), imbalance=(0.5, 0.2), draws=2)
    parts = conditions(shuffled([300, 100]), recipe, seed=0, classes=2)
    assert [part.condition for part in parts] == [
        "labels=0.1 draw=0", "labels=0.1 draw=1", "labels=0.01 draw=0", "labels=0.01 draw=1",
        "positives=0.5 draw=0", "positives=0.5 draw=1", "positives=0.2 draw=0", "positives=0.2 draw=1",
    ]  # fmt: skip
    assert [len(part.indices) for part in parts] == [40, 40, 4, 4, 201, 201, 201, 201]  # 100 of 201 are half, rounded
    assert conditions(shuffled([300, 100]), EvaluateRecipe(), seed=0, classes=2) == []


def test_shares_of_positives_of_three_classes_are_refused() -> None:
    recipe = EvaluateRecipe(imbalance=(0.5,))
    with pytest.raises(RecipeError, match="this task has 3 classes; leave it out"):
        conditions(np.array([0, 1, 1, 0]), recipe, seed=0, classes=3)
    with pytest.raises(RecipeError, match="need a task of two classes, and this one has 3"):
        imbalanced(np.array([0, 1, 2]), [0.5], 1, 0)


def test_classes_too_small_for_the_shares_of_positives_are_told_with_their_sizes() -> None:
    with pytest.raises(DataError, match=r"4 positive and 100 negative training cases are too few .* of 0.5, 0.01 at"):
        imbalanced(shuffled([100, 4]), [0.5, 0.01], 1, 0)

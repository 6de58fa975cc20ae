"""Jigsaw: permutations, pieces and loss."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssl3d.data.augment import Augment
from ssl3d.data.rng import Rng
from ssl3d.recipe import AugmentRecipe
from ssl3d.testing.toys import ToyBackbone
from ssl3d_plugins.methods.jigsaw import Jigsaw, distant_permutations
from tests.plugins.small import SMALL, VOLUMES, batch_of, views_of

SOURCE = SMALL["jigsaw"].source()


def test_pieces_are_runs_of_slices_in_the_order_of_the_permutation() -> None:
    method = SMALL["jigsaw"].build(gap=0)
    views = views_of(method, SOURCE)
    whole = method.augment(SOURCE.volumes(range(VOLUMES)), Rng(3, 1, range(VOLUMES)))  # the same draws
    assert whole.shape == (VOLUMES, 1, 3, 9, 7)
    for volume, index in enumerate(views.rows["permutation"].tolist()):
        for place, piece in enumerate(method.order[index]):
            expected = F.layer_norm(whole[volume, :, piece : piece + 1], (1, 1, 9, 7))
            assert torch.equal(views.tensors[place][volume], expected)


def test_a_gap_keeps_the_edges_of_neighbours_apart() -> None:
    """Every piece stays within its part of the volume, and moves in it."""
    method = SMALL["jigsaw"].build(gap=2)
    views = views_of(method, SOURCE, range(VOLUMES))
    whole = method.augment(SOURCE.volumes(range(VOLUMES)), Rng(3, 1, range(VOLUMES)))
    starts = set()
    for volume, index in enumerate(views.rows["permutation"].tolist()):
        for place, piece in enumerate(method.order[index]):
            candidates = [
                F.layer_norm(whole[volume, :, 3 * piece + s : 3 * piece + s + 1], (1, 1, 9, 7)) for s in range(3)
            ]
            matches = [torch.equal(views.tensors[place][volume], one) for one in candidates]
            assert sum(matches) == 1
            starts.add(matches.index(True))
    assert starts == {0, 1, 2}


def test_every_permutation_is_drawn_and_none_much_more_often() -> None:
    method = SMALL["jigsaw"].build()
    drawn = torch.cat([views_of(method, SOURCE, step=step).rows["permutation"] for step in range(50)])
    counts = torch.bincount(drawn, minlength=6)
    assert len(counts) == 6
    assert counts.min() > 70  # 100 expected
    assert counts.max() < 130


@pytest.mark.parametrize(("pieces", "count", "expected"), [(3, 100, 6), (4, 24, 24), (5, 7, 7)])
def test_permutations_differ_and_are_as_far_apart_as_can_be(pieces: int, count: int, expected: int) -> None:
    chosen = distant_permutations(pieces, count)
    assert chosen.shape == (expected, pieces)
    assert len({tuple(one) for one in chosen}) == expected
    assert chosen[0].tolist() == list(range(pieces))
    every = np.array(list(permutations(range(pieces))))
    for number in range(1, expected):  # none that is left is farther from the earlier ones
        nearest = np.min([(every != one).sum(1) for one in chosen[:number]], axis=0)
        assert (chosen[number] != chosen[:number]).sum(1).min() == nearest.max()


def test_loss_is_the_cross_entropy_of_the_permutation() -> None:
    method = SMALL["jigsaw"].build()
    batch = batch_of(method, SOURCE)
    probabilities = method.head(torch.cat(batch.online, 1)).softmax(1)
    picked = probabilities[torch.arange(VOLUMES), batch.rows["permutation"]]
    torch.testing.assert_close(method.loss(batch).value, -picked.log().mean(), rtol=1e-12, atol=0)


def test_brightness_and_contrast_of_a_piece_do_not_matter() -> None:
    for piece in views_of(SMALL["jigsaw"].build(), SOURCE).tensors:
        torch.testing.assert_close(piece.mean((1, 2, 3, 4)), torch.zeros(VOLUMES), rtol=0, atol=1e-5)
        torch.testing.assert_close(piece.var((1, 2, 3, 4), correction=0), torch.ones(VOLUMES), rtol=1e-3, atol=0)


def test_the_depth_axis_is_never_flipped() -> None:
    method = Jigsaw(ToyBackbone(), augment=Augment(AugmentRecipe(flip=(0.2, 0.3, 0.5))))
    assert method.augment.recipe.flip == (0, 0.3, 0.5)

"""Rotation: sense, squares, labels and loss."""

from __future__ import annotations

import math

import torch

from ssl3d.data.augment import Augment, View
from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes
from ssl3d.parts.quarter_turns import square_slices
from ssl3d.recipe import AugmentRecipe
from ssl3d.testing.toys import RaggedSource, ToyBackbone
from ssl3d_plugins.methods.rotation import Rotation
from tests.plugins.small import SMALL, VOLUMES, batch_of, views_of

SOURCE = SMALL["rotation"].source()


def test_views_are_one_view_and_its_three_turns() -> None:
    views = views_of(SMALL["rotation"].build(), SOURCE).tensors
    assert [tuple(view.shape) for view in views] == [(VOLUMES, 1, 4, 7, 7)] * 4
    for turn, view in enumerate(views):
        assert torch.equal(view, views[0].rot90(turn, (4, 3)))
    assert torch.equal(views[2], views[0].flip(3, 4))


def test_turns_have_the_sense_of_the_rotations_of_views() -> None:
    """A quarter turn is what the augmentation makes of an angle of 90 degrees, not of -90 (kornia #4408)."""
    volume = torch.arange(2 * 6 * 6.0).view(1, 2, 6, 6)
    mean, std = torch.tensor(0.0), torch.tensor(1.0)
    upright, turned = (View(angle=angle).of(volume, mean, std, (2, 6, 6)) for angle in (0.0, math.pi / 2))
    torch.testing.assert_close(turned, upright.rot90(1, (3, 2)), rtol=0, atol=1e-4)
    assert not torch.allclose(turned, upright.rot90(-1, (3, 2)), atol=1.0)


def test_slices_are_cut_to_squares_that_reach_both_ends() -> None:
    source, places = RaggedSource(VOLUMES), []
    for step in range(20):
        volumes = source.volumes(range(VOLUMES))
        cut = square_slices(volumes, Rng(0, step, range(VOLUMES)))
        for ours, theirs in zip(cut.voxels, volumes.voxels, strict=True):
            side = min(theirs.shape[2:])
            assert ours.shape == (*theirs.shape[:2], side, side)
            starts = [theirs.shape[axis] - side for axis in (2, 3)]
            matches = [
                (y, x)
                for y in range(starts[0] + 1)
                for x in range(starts[1] + 1)
                if torch.equal(ours, theirs[:, :, y : y + side, x : x + side])
            ]
            assert len(matches) == 1
            places.append((*matches[0], *starts))
        assert torch.equal(cut.mean, volumes.mean)
    assert {x for _, x, _, room in places if room == 1} == {0, 1}


def test_a_wide_volume_is_not_stretched() -> None:
    """A disc in a plane of 12 x 24 voxels covers as many rows as columns of a view."""
    y, x = torch.meshgrid(torch.arange(12.0) - 5.5, torch.arange(24.0) - 11.5, indexing="ij")
    disc = ((y**2 + x**2) < 9).float().expand(1, 4, 12, 24)
    volumes = Volumes((disc,), torch.zeros(1), torch.ones(1))
    still = AugmentRecipe(
        crop=(1, 1), depth=(1, 1), flip=(0, 0, 0), rotate=0, brightness=0, contrast=0, gamma=0, blur=0, noise=0
    )
    seen = 0
    for step in range(8):
        view = Rotation(ToyBackbone(), augment=Augment(still, (4, 12, 24))).views(volumes, Rng(0, step, [0])).tensors[0]
        inside = view[0, 0, 0] > 0.5
        if inside[:, 0].any() or inside[:, -1].any():
            continue  # cut at the edge
        assert inside.any(0).sum() == inside.any(1).sum() == 6
        seen += 1
    assert seen > 2


def test_flips_and_angles_that_pass_for_a_turn_are_off() -> None:
    recipe = AugmentRecipe(flip=(0.2, 0.3, 0.5), rotate=180)
    method = Rotation(ToyBackbone(), augment=Augment(recipe, (4, 9, 7)))
    assert method.augment.recipe.flip == (0.2, 0, 0.5)
    assert method.augment.recipe.rotate == 30
    assert Rotation(ToyBackbone()).augment.recipe.rotate == AugmentRecipe().rotate


def test_loss_is_the_mean_cross_entropy_of_the_four_turns() -> None:
    method = SMALL["rotation"].build()
    batch = batch_of(method, SOURCE)
    terms = [-method.head(one).log_softmax(1)[:, turn] for turn, one in enumerate(batch.online)]
    loss = method.loss(batch)
    torch.testing.assert_close(loss.value, torch.stack(terms).mean(), rtol=1e-12, atol=0)
    right = [method.head(one).argmax(1) == turn for turn, one in enumerate(batch.online)]
    torch.testing.assert_close(loss.scalars["accuracy"], torch.stack(right).double().mean())

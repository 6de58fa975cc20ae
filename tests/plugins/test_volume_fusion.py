"""Volume Fusion: the fused view, its classes and the loss, against their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ssl3d.data.augment import Augment
from ssl3d.data.rng import Rng
from ssl3d.errors import RecipeError
from ssl3d.method import Batch
from ssl3d.testing.toys import ToyBackbone
from ssl3d_plugins.methods.volume_fusion import VolumeFusion, VolumeFusionConfig
from tests.plugins.small import SMALL, VOLUMES, batch_of, views_of

SOURCE = SMALL["volume fusion"].source()


def small(**settings: Any) -> VolumeFusion:
    method = SMALL["volume fusion"].build(**settings)
    assert isinstance(method, VolumeFusion)
    return method


def test_a_voxel_mixes_both_crops_by_its_class() -> None:
    method = small(weights=2, boxes=(2, 4))
    rng, volumes = Rng(3, 1, range(VOLUMES)), SOURCE.volumes(range(VOLUMES))
    background, foreground = method.augment(volumes, rng), method.augment(volumes, rng)
    views = views_of(method, SOURCE)
    fused, classes = views.tensors[0], views.rows["classes"]
    assert {0, 1, 2} == set(classes.unique().tolist())
    for value, expected in ((0, background), (1, (background + foreground) / 2), (2, foreground)):
        place = classes[:, None] == value
        torch.testing.assert_close(fused[place], expected[place], rtol=1e-6, atol=1e-6)
    assert not torch.allclose(background, foreground)


def test_a_class_is_that_of_the_last_box_that_holds_the_voxel() -> None:
    size = (16, 32, 32)  # a quarter of the paper's: sides are 2 to 10, and 2 to 20 twice
    method = VolumeFusion(ToyBackbone(), VolumeFusionConfig(boxes=(2, 6)), Augment(size=size))
    rng = Rng(0, 0, range(20))
    count, values = rng.numbers(2, 7), rng.numbers(1, 5, count=6)
    sides, centres = rng.numbers(count=18).reshape(20, 6, 3), rng.numbers(count=18).reshape(20, 6, 3)
    places = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
    for volume, classes in enumerate(method.classes(Rng(0, 0, range(20)))):
        expected = np.zeros(size, int)
        for box in range(int(count[volume])):
            side = 2 + np.floor(sides[volume, box] * [9, 19, 19])
            first = np.floor(centres[volume, box] * size) - side // 2
            expected[((first <= places) & (places < first + side)).all(axis=-1)] = int(values[volume, box])
        assert np.array_equal(classes.numpy(), expected)
        assert 0 < (expected > 0).mean() < 1


def test_views_are_those_of_a_volume_whatever_else_is_in_the_batch() -> None:
    whole, alone = views_of(small(), SOURCE), views_of(small(), SOURCE, range(5, 7))
    assert torch.equal(whole.tensors[0][5:7], alone.tensors[0])
    assert torch.equal(whole.rows["classes"][5:7], alone.rows["classes"])


def test_loss_is_cross_entropy_and_dice_written_out() -> None:
    method = small(weights=2)
    batch = batch_of(method, SOURCE)
    logits, classes = batch.online_maps[0]["logits"], batch.rows["classes"]
    exponentials = logits.exp()
    shares = exponentials / exponentials.sum(dim=1, keepdim=True)
    entropy, losses = [], []
    for volume in range(VOLUMES):
        for value in range(3):
            share, true = shares[volume, value], (classes[volume] == value).double()
            entropy.append(-(share.log() * true).sum())
            losses.append(1 - (2 * (share * true).sum() + 1e-5) / (share.sum() + true.sum() + 1e-5))
    expected = (torch.stack(entropy).sum() / classes.numel() + torch.stack(losses).mean()) / 2
    torch.testing.assert_close(method.loss(batch).value, expected, rtol=1e-11, atol=0)


def test_loss_does_not_depend_on_where_voxels_are_and_vanishes_for_certain_truth() -> None:
    method = small()
    logits = torch.randn(2, 5, 3, 4, 5, dtype=torch.float64)
    classes = torch.randint(5, (2, 3, 4, 5))

    def loss(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return method.loss(Batch(({"logits": logits},), rows={"classes": classes})).value

    torch.testing.assert_close(loss(logits.flip(2, 4), classes.flip(1, 3)), loss(logits, classes))
    certain = 50.0 * torch.nn.functional.one_hot(classes, 5).movedim(-1, 1).double()
    assert loss(certain, classes) < 1e-6


def test_the_order_of_the_numbers_of_boxes_is_checked() -> None:
    with pytest.raises(RecipeError, match=r"boxes: the first of \(9, 2\) must not be larger than the second"):
        VolumeFusionConfig.checked({"boxes": [9, 2]}, "volume_fusion")

"""SparK: patches, what the encoder sees, mask tokens and the loss, against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ssl3d.data.augment import Augment
from ssl3d.errors import PluginError, RecipeError
from ssl3d.parts.sparse import mask_at
from ssl3d_plugins.backbones.tiny import Tiny
from ssl3d_plugins.methods.spark import SparK, SparKConfig
from tests.plugins.small import SMALL, VOLUMES, SmallViT, batch_of, relative, views_of

SOURCE = SMALL["spark"].source()
GRID, PATCH = (4, 5, 4), (1, 2, 2)  # of views of 4 x 10 x 8 voxels, for the 4 x 9 x 7 that are asked for


def small() -> SparK:
    method = SMALL["spark"].build()
    assert isinstance(method, SparK)
    return method


def seen() -> tuple[SparK, Tensor, Tensor]:
    """Return the method, its view in float64 and what is visible of it."""
    method = small()
    views = views_of(method, SOURCE)
    return method, views.tensors[0].double(), views.rows["visible"]


def test_a_patch_is_what_stands_behind_one_place_of_the_coarsest_map() -> None:
    method, view, visible = seen()
    assert (method.grid, method.patch, view.shape[2:]) == (GRID, PATCH, (4, 10, 8))
    assert visible.shape == (VOLUMES, *GRID)
    assert visible.flatten(1).sum(1).tolist() == [32] * VOLUMES  # 80 - .6 * 80
    tiny = SparK(Tiny(), SparKConfig(decoder_width=8), Augment(size=(8, 32, 30)))
    assert (tiny.grid, tiny.patch, tiny.augment.size) == ((1, 2, 2), (8, 16, 15), (8, 32, 30))


def test_masks_are_drawn_per_volume_and_step_whatever_else_is_in_the_batch() -> None:
    method, _, visible = seen()
    assert torch.equal(views_of(method, SOURCE, range(5, 7)).rows["visible"], visible[5:7])
    assert not torch.equal(views_of(method, SOURCE, step=2).rows["visible"], visible)
    assert len({tuple(one.flatten().tolist()) for one in visible}) == VOLUMES


def test_hidden_voxels_decide_nothing_but_the_target() -> None:
    method, view, visible = seen()
    noise = torch.randn(view.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    other = torch.where(mask_at(visible, view.shape[2:]) > 0, view, noise)
    ours, theirs = (method.online(one, {"visible": visible}) for one in (view, other))
    assert torch.equal(ours["map"], theirs["map"])
    assert torch.equal(ours["voxels"], theirs["voxels"])
    hidden = visible.flatten(1).logical_not()
    targets = [method.target(one, {}) for one in (view, other)]
    assert torch.equal(targets[0][~hidden], targets[1][~hidden])
    assert relative(targets[0][hidden], targets[1][hidden]) > 0.1
    moved = torch.where(mask_at(visible, view.shape[2:]) > 0, noise, view)
    assert relative(method.online(moved, {"visible": visible})["voxels"], ours["voxels"]) > 1e-3


def test_mask_tokens_stand_where_a_map_is_hidden() -> None:
    method, view, visible = seen()
    maps = method.backbone.forward_features(view)
    for dense, one, token in zip(method.densified(maps, visible), maps, method.mask_tokens, strict=True):
        mask = mask_at(visible, one.shape[2:]) > 0
        assert torch.equal(dense.masked_fill(mask, 0), token.expand_as(dense).masked_fill(mask, 0))
        shown = dense[mask.expand_as(dense)]
        torch.testing.assert_close(shown.square().mean(), torch.ones(()).double(), rtol=1e-2, atol=0)  # normalised


def test_loss_is_the_squared_error_over_hidden_voxels_standardised_by_patch_written_out() -> None:
    method, view, visible = seen()
    batch = batch_of(method, SOURCE)
    predicted, errors = batch.online_maps[0]["voxels"], []
    for volume in range(VOLUMES):
        for number, (d, h, w) in enumerate((d, h, w) for d in range(4) for h in range(5) for w in range(4)):
            if not visible[volume, d, h, w]:
                voxels = view[volume, 0, d, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2].flatten()
                standard = (voxels - voxels.mean()) / (voxels.var() + 1e-6).sqrt()
                errors.append((predicted[volume, number] - standard).square())
    loss = method.loss(batch)
    torch.testing.assert_close(loss.value, torch.cat(errors).mean(), rtol=1e-12, atol=0)
    assert loss.weight == len(errors) == VOLUMES * 48
    with torch.no_grad():
        predicted[visible.flatten(1)] += 7
    assert torch.equal(method.loss(batch).value, loss.value)


def test_refusals_name_the_view_or_the_module() -> None:
    with pytest.raises(RecipeError, match=r"view_size = \(8, 16, 16\) is one place of the coarsest map"):
        SparK(Tiny(), augment=Augment(size=(8, 16, 16)))
    with pytest.raises(
        PluginError, match=r"SmallViT cannot convolve over visible voxels alone: its Linear cannot be masked"
    ):
        SparK(SmallViT(), augment=Augment(size=(4, 9, 6)))


def test_at_least_one_patch_is_visible_and_one_hidden() -> None:
    for ratio in (0.01, 0.99):
        method = SMALL["spark"].build(mask_ratio=ratio)
        count = int(views_of(method, SOURCE, range(2)).rows["visible"].sum()) / 2
        assert count == min(max(round((1 - ratio) * math.prod(GRID)), 1), math.prod(GRID) - 1)

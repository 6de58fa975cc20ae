"""MAE and SimMIM: masks, targets and losses against their definitions."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from ssl3d.data.augment import Augment
from ssl3d.errors import RecipeError
from ssl3d.parts.tokens import to_patches
from ssl3d.train.encode import EffectiveBatch
from ssl3d_plugins.methods.mae import MAE
from tests.plugins.small import SMALL, VOLUMES, SmallViT, batch_of, relative, step, views_of

TOKENS, PATCH = 2 * 3 * 3, (2, 3, 2)  # of a view of 4 x 9 x 6 voxels
SOURCE = SMALL["mae"].source()


def test_mae_encodes_a_quarter_of_the_patches_and_predicts_the_others() -> None:
    method = SMALL["mae"].build()
    batch = batch_of(method, SOURCE)
    assert batch.online_maps[0]["tokens"].shape == (VOLUMES, 4, 12)
    assert batch.online_maps[0]["voxels"].shape == (VOLUMES, 14, 12)
    assert batch.target[0].shape == (VOLUMES, 14, 12)
    assert torch.equal(batch.rows["order"].sort(dim=1).values, torch.arange(TOKENS).expand(VOLUMES, -1))


def test_mae_never_sees_the_patches_that_it_predicts() -> None:
    method = SMALL["mae"].build()
    views = views_of(method, SOURCE)
    view, rows = views.tensors[0].double(), views.view_rows[0]
    patches = to_patches(view, PATCH)
    dropped = method.split(rows["order"])[1]
    noise = torch.randn(patches.shape, generator=torch.Generator().manual_seed(0)).double()
    other = from_patches(patches.scatter_add(1, dropped[..., None].expand(-1, -1, 12), noise[:, : dropped.shape[1]]))
    assert not torch.equal(view, other)
    for ours, theirs in zip(method.online(view, rows).values(), method.online(other, rows).values(), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.allclose(method.target(view, rows), method.target(other, rows))


def from_patches(patches: torch.Tensor) -> torch.Tensor:
    """Put patches of (B, 1, 4, 9, 6) back."""
    split = patches.reshape(-1, 2, 3, 3, 1, *PATCH).permute(0, 4, 1, 5, 2, 6, 3, 7)
    return split.reshape(-1, 1, 4, 9, 6)


@pytest.mark.parametrize("normalise", [True, False])
def test_mae_loss_is_the_squared_error_over_masked_voxels_written_out(normalise: bool) -> None:
    method = SMALL["mae"].build(normalise=normalise)
    view, batch = views_of(method, SOURCE).tensors[0].double(), batch_of(method, SOURCE)
    errors = []
    for volume in range(VOLUMES):
        for place, patch in enumerate(batch.rows["order"][volume, 4:].tolist()):
            d, h, w = patch // 9, patch // 3 % 3, patch % 3
            voxels = view[volume, 0, 2 * d : 2 * d + 2, 3 * h : 3 * h + 3, 2 * w : 2 * w + 2].flatten()
            if normalise:
                voxels = (voxels - voxels.mean()) / (voxels.var() + 1e-6).sqrt()
            errors.append((batch.online_maps[0]["voxels"][volume, place] - voxels).square())
    loss = method.loss(batch)
    torch.testing.assert_close(loss.value, torch.cat(errors).mean(), rtol=1e-12, atol=0)
    assert loss.weight == VOLUMES * 14 * 12


def test_mae_predictions_do_not_depend_on_the_order_of_the_visible_patches() -> None:
    method = SMALL["mae"].build()
    views = views_of(method, SOURCE)
    view, order = views.tensors[0].double(), views.rows["order"]
    other = torch.cat([order[:, :4].flip(1), order[:, 4:]], dim=1)
    ours, theirs = (method.online(view, {"order": one})["voxels"] for one in (order, other))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    elsewhere = method.online(view, {"order": order.roll(1, dims=1)})["voxels"]
    assert relative(elsewhere, ours) > 1e-3  # but on which patches they are


@pytest.mark.parametrize("name", ["mae", "simmim"])
def test_masks_are_drawn_per_volume_and_step_whatever_else_is_in_the_batch(name: str) -> None:
    method = SMALL[name].build()
    row = {"mae": "order", "simmim": "mask"}[name]
    whole, alone = views_of(method, SOURCE).rows[row], views_of(method, SOURCE, range(5, 7)).rows[row]
    assert torch.equal(whole[5:7], alone)
    assert len({tuple(one.tolist()) for one in whole}) > VOLUMES // 2
    assert not torch.equal(whole, views_of(method, SOURCE, step=2).rows[row])


def test_views_of_masked_methods_are_whole_patches() -> None:
    for name in ("mae", "simmim"):
        assert views_of(SMALL[name].build(), SOURCE).tensors[0].shape[2:] == (4, 9, 6)  # of 4 x 9 x 7


def test_simmim_masks_blocks_of_patches() -> None:
    mask = views_of(SMALL["simmim"].build(), SOURCE).rows["mask"].reshape(VOLUMES, 2, 3, 3)
    blocks = mask[:, :, ::2, ::2]  # one patch of each of 2 x 2 x 2 blocks, of which the far ones are cut
    assert torch.equal(blocks.sum((1, 2, 3)), torch.full((VOLUMES,), 5))  # the smallest number above .6 of 8
    assert torch.equal(mask, blocks.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, :3, :3])
    assert len(set(mask.sum((1, 2, 3)).tolist())) > 1  # so volumes have weights of their own


def test_simmim_sees_a_token_in_place_of_masked_patches() -> None:
    method = SMALL["simmim"].build()
    views = views_of(method, SOURCE)
    view, mask = views.tensors[0].double(), views.rows["mask"]
    patches = to_patches(view, PATCH)
    hidden = from_patches(torch.where(mask[..., None], 7.0, patches))
    seen = from_patches(torch.where(mask[..., None], patches, 7.0))
    before = method.online(view, views.rows)["tokens"]
    assert torch.equal(method.online(hidden, views.rows)["tokens"], before)
    assert relative(method.online(seen, views.rows)["tokens"], before) > 1e-3


def test_simmim_loss_is_the_absolute_error_over_masked_voxels_written_out() -> None:
    method = SMALL["simmim"].build()
    view, batch = views_of(method, SOURCE).tensors[0].double(), batch_of(method, SOURCE)
    mask = batch.rows["mask"]
    difference = batch.online_maps[0]["voxels"][mask] - to_patches(view, PATCH)[mask]  # (masked patches, voxels)
    loss = method.loss(batch)
    torch.testing.assert_close(loss.value, difference.abs().mean(), rtol=1e-12, atol=0)
    assert loss.weight == mask.sum()


def test_micro_batches_weigh_as_many_masked_voxels_as_they_have() -> None:
    """A plain mean over micro-batches, as is usual, has another gradient."""
    method = SMALL["simmim"].build()
    batch = batch_of(method, SOURCE)
    counts = batch.rows["mask"].sum(1)  # (N,)
    error = (batch.online_maps[0]["voxels"] - batch.target[0]).abs().mean(2) * batch.rows["mask"]  # (N, T)
    (error.sum(1) / counts).mean().backward()
    plain = parameters_to_vector(p.grad for p in method.parameters() if p.grad is not None)
    split = step(method, SOURCE, 1, EffectiveBatch(range(VOLUMES), 1, 0.2)).values["gradient"]
    assert relative(plain, split) > 1e-3


def test_mae_refuses_a_view_of_one_patch() -> None:
    with pytest.raises(RecipeError, match=r"view_size = \(3, 5, 3\) is one patch of \(2, 3, 2\)"):
        MAE(SmallViT(), augment=Augment(size=(3, 5, 3)))

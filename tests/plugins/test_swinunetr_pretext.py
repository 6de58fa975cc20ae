"""The pretext tasks of Swin UNETR: turns, blocks, restoration and the three losses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from ssl3d.backbone import Backbone
from ssl3d.data.augment import Augment
from ssl3d.data.rng import Rng
from ssl3d.parts.tokens import to_patches
from ssl3d.recipe import AugmentRecipe
from ssl3d_plugins.backbones.tiny import Tiny
from ssl3d_plugins.methods.swinunetr_pretext import (
    SwinUNETRPretext,
    SwinUNETRPretextConfig,
    cut_out,
    shuffle,
)
from tests.plugins.small import SMALL, VOLUMES, SmallViT, batch_of, views_of

SOURCE = SMALL["swinunetr pretext"].source()


def build() -> SwinUNETRPretext:
    method = SMALL["swinunetr pretext"].build()
    assert isinstance(method, SwinUNETRPretext)
    return method


def test_views_are_turned_copies_of_one_crop_with_blocks_of_noise() -> None:
    views = views_of(build(), SOURCE)
    assert [tuple(view.shape) for view in views.tensors] == [(VOLUMES, 2, 4, 7, 7)] * 2
    upright, drawn = [], []
    for view, rows in zip(views.tensors, views.view_rows, strict=True):
        cut, whole = view[:, 0], view[:, 1]
        changed = (cut != whole).flatten(1).double().mean(1)
        assert 0 < changed.max() < 0.3 + 1 / 49  # the last block may reach beyond: here it is one row or column
        noise = cut[cut != whole]
        assert abs(float(noise.mean())) < 0.3
        assert 0.7 < float(noise.std()) < 1.3
        turns = rows["turn"].tolist()
        drawn.append(turns)
        upright.append([one.rot90(-turn, (2, 1)) for one, turn in zip(whole, turns, strict=True)])
    assert all(torch.equal(*pair) for pair in zip(*upright, strict=True))
    assert drawn[0] != drawn[1]
    assert {*drawn[0], *drawn[1]} == {0, 1, 2, 3}


def test_blocks_cover_the_drawn_share_and_keep_their_bounds() -> None:
    config = SwinUNETRPretextConfig(min_block=0.25, max_block=0.5, max_cut=0.9)
    positions, size = range(300), (4, 8, 12)
    masks = cut_out(Rng(0, 0, positions), size, config)
    covered = masks.mean(axis=(1, 2, 3))
    assert covered.max() < 0.9 + 0.125
    assert 0.2 < covered.mean() < 0.45  # half of the largest share, less what overlaps
    single = cut_out(Rng(0, 0, positions), size, config.model_copy(update={"max_cut": 1e-9}))
    for mask in single:  # one block each
        sides = [np.flatnonzero(mask.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
        lengths = [int(np.ptp(side)) + 1 for side in sides]
        assert mask.sum() == np.prod(lengths)
        assert all(n // 4 <= length <= n // 2 for length, n in zip(lengths, size, strict=True))
    assert all(single.any(axis=(0, *other)).all() for other in ((2, 3), (1, 3), (1, 2)))  # both ends are reached
    assert not cut_out(Rng(0, 0, range(5)), size, config.model_copy(update={"max_cut": 0.0})).any()


def test_pixel_shuffle_undoes_the_cut_into_patches() -> None:
    volume = torch.arange(2 * 4 * 7 * 6.0).view(2, 1, 4, 7, 6)
    maps = to_patches(volume, (2, 3, 2)).transpose(1, 2).unflatten(2, (2, 3, 3))
    assert torch.equal(shuffle(maps, (2, 3, 2), (4, 7, 6)), volume)


def test_patches_cover_the_view_of_any_backbone() -> None:
    cases: list[tuple[Backbone, tuple[int, int, int], int]] = [(Tiny(), (8, 14, 14), 128), (SmallViT(), (2, 3, 2), 12)]
    for backbone, patch, width in cases:
        method = SwinUNETRPretext(backbone.train(), augment=Augment(AugmentRecipe(), (8, 28, 28)))
        assert method.patch == patch
        assert method.restoration_head.in_channels == width
        assert backbone.training


def test_losses_are_those_of_the_authors_code_written_out() -> None:
    method = build()
    batch, views = batch_of(method, SOURCE, 3), views_of(method, SOURCE, range(3)).tensors
    z = F.normalize(torch.cat([method.contrast_head(maps["features"]) for maps in batch.online_maps]), dim=1)  # (6, P)
    similar = (z @ z.T / 0.5).exp()
    contrast = [-(similar[i, (i + 3) % 6] / (similar[i].sum() - similar[i, i])).log() for i in range(6)]
    rotation, restoration = [], []
    for maps, rows, view in zip(batch.online_maps, batch.view_rows, views, strict=True):
        for logits, turn in zip(method.rotation_head(maps["features"]), rows["turn"], strict=True):
            rotation.append(logits.exp().sum().log() - logits[turn])
        head = method.restoration_head
        last = method.backbone.forward_features(view[:, :1].double())[-1]  # (3, 6, 4, 4, 4), patches of 1 x 2 x 2
        for d, h, w in np.ndindex(4, 7, 7):
            voxel = h % 2 * 2 + w % 2
            restored = last[:, :, d, h // 2, w // 2] @ head.weight[voxel].flatten() + head.bias[voxel]
            restoration.append((restored - view[:, 1, d, h, w]).abs().mean())
    loss = method.loss(batch)
    expected = {"rotation": rotation, "contrast": contrast, "restoration": restoration}
    for name, terms in expected.items():
        torch.testing.assert_close(loss.scalars[name], torch.stack(terms).mean(), rtol=1e-10, atol=0)
    weighted = replace_weights(method, rotation_weight=2.0, contrast_weight=0.5, restoration_weight=3.0).loss(batch)
    value = sum(
        weight * torch.stack(terms).mean() for weight, terms in zip((2, 0.5, 3), expected.values(), strict=True)
    )
    torch.testing.assert_close(weighted.value, value, rtol=1e-10, atol=0)


def replace_weights(method: SwinUNETRPretext, **weights: float) -> SwinUNETRPretext:
    method.config = method.config.model_copy(update=weights)
    return method


def test_loss_does_not_depend_on_the_order_of_the_two_copies() -> None:
    method = build()
    batch = batch_of(method, SOURCE)
    other = replace(batch, online_features=batch.online_features[::-1], view_rows=batch.view_rows[::-1])
    torch.testing.assert_close(method.loss(other).value, method.loss(batch).value, rtol=1e-12, atol=0)

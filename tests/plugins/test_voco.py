"""VoCo: the geometry of its crops counted voxel by voxel, and its losses written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from ssl3d.data.augment import Augment
from ssl3d.errors import RecipeError
from ssl3d.train.encode import EffectiveBatch
from ssl3d_plugins.methods.voco import VoCo, VoCoConfig, overlap
from tests.plugins.small import SMALL, VOLUMES, ToyBackbone, batch_of, step, train, views_of

SOURCE = SMALL["voco"].source()
GRID, CROP = (2, 1, 3), (2, 9, 2)  # of views of 4 x 9 x 7 voxels: the seventh column is left out


def build() -> VoCo:
    method = SMALL["voco"].build()
    assert isinstance(method, VoCo)
    return method


def test_overlaps_are_those_counted_voxel_by_voxel() -> None:
    crop, grid = np.array((2, 3, 4)), (2, 3, 2)
    bases = np.indices(grid).reshape(3, -1).T * crop
    places = np.indices((3, 7, 5)).reshape(3, 1, -1).transpose(2, 1, 0)  # every place in a view of 4 x 9 x 8
    counted = np.zeros((len(places), 1, len(bases)))
    for number, (d, h, w) in enumerate(places[:, 0]):
        inside = np.zeros((4, 9, 8), bool)
        inside[d : d + 2, h : h + 3, w : w + 4] = True
        for base, (D, H, W) in enumerate(bases):
            counted[number, 0, base] = inside[D : D + 2, H : H + 3, W : W + 4].sum() / 24
    np.testing.assert_allclose(overlap(places, bases, crop), counted, rtol=1e-15)
    assert (counted == 1).sum() == len(bases)


def test_rows_describe_the_crops_that_are_cut() -> None:
    method = build()
    views = views_of(method, SOURCE)
    (view,), rows = views.tensors, views.rows
    assert view.shape == (VOLUMES, 1, 4, 9, 6)
    crops = method.cut(view, rows["first"])
    assert crops.shape == (VOLUMES, 6 + 2, 1, *CROP)
    for volume in range(VOLUMES):
        tiles = [view[volume, :, d : d + 2, :, w : w + 2] for d in (0, 2) for w in (0, 2, 4)]
        assert torch.equal(crops[volume, :6], torch.stack(tiles))
        for ours, (d, h, w) in zip(crops[volume, 6:], rows["first"][volume, 6:].tolist(), strict=True):
            assert torch.equal(ours, view[volume, :, d : d + 2, h : h + 9, w : w + 2])
    torch.testing.assert_close(rows["overlap"].sum(2), torch.ones(VOLUMES, 2))  # base crops tile the view
    drawn = torch.cat([views_of(method, SOURCE, step=number).rows["first"][:, 6:] for number in range(5)])
    assert [set(column.tolist()) for column in drawn.flatten(0, 1).T] == [{0, 1, 2}, {0}, set(range(5))]


def test_losses_are_those_of_the_authors_code_written_out_crop_by_crop() -> None:
    method = build()
    train(method, SOURCE, VOLUMES, [range(9)])
    batch = batch_of(method, SOURCE, 3)
    ours = method.projector(batch.online[0].flatten(0, 1)).unflatten(0, (3, 8))
    theirs = method.momentum_projector(batch.target[0].flatten(0, 1)).unflatten(0, (3, 8))
    positive, negative, similar = [], [], []
    for volume in range(3):
        weighted, weight, absent = 0.0, 0.0, []
        for crop in range(2):
            for base in range(6):
                student = F.cosine_similarity(ours[volume, 6 + crop], theirs[volume, base], dim=0).clamp(min=0)
                teacher = F.cosine_similarity(theirs[volume, 6 + crop], ours[volume, base], dim=0).clamp(min=0)
                predicted, truth = (student + teacher) / 2, float(batch.rows["overlap"][volume, crop, base])
                weighted = weighted - truth * torch.log(1 - (truth - predicted).abs() + 1e-6)
                weight += truth
                absent += [predicted**2] if truth == 0 else []
        positive.append(weighted / (weight + 1e-6))
        negative.append(sum(absent) / (len(absent) + 1e-6))
        pairs = [(i, j) for i in range(6) for j in range(i + 1, 6)]
        cosines = [F.cosine_similarity(ours[volume, i], ours[volume, j], dim=0).clamp(min=0) for i, j in pairs]
        similar.append(sum(one**2 for one in cosines) / len(pairs))
    loss = method.loss(batch)
    for name, terms in {"positive": positive, "negative": negative, "bases": similar}.items():
        torch.testing.assert_close(loss.scalars[name], sum(terms) / 3, rtol=1e-10, atol=0)
    torch.testing.assert_close(loss.value, sum(positive + negative + similar) / 3, rtol=1e-10, atol=0)


def test_loss_does_not_depend_on_the_order_of_the_base_crops() -> None:
    method = build()
    train(method, SOURCE, VOLUMES, [range(9)])
    batch, order = batch_of(method, SOURCE), torch.tensor([3, 0, 5, 1, 4, 2])
    moved = torch.cat([order, torch.tensor([6, 7])])
    other = replace(
        batch,
        online_features=(batch.online[0][:, moved],),
        target_features=(batch.target[0][:, moved],),
        rows={**batch.rows, "overlap": batch.rows["overlap"][:, :, order]},
    )
    torch.testing.assert_close(method.loss(other).value, method.loss(batch).value, rtol=1e-12, atol=0)


def test_momentum_networks_start_as_copies_and_move_once_per_step() -> None:
    method = SMALL["voco"].build(momentum=0.9)
    assert isinstance(method, VoCo)
    followers = (method.momentum_backbone, method.momentum_projector)
    before = [parameters_to_vector(one.module.parameters()) for one in followers]
    assert all(torch.equal(*pair) for pair in zip(before, map(_source, followers), strict=True))
    found = step(method, SOURCE, 2, EffectiveBatch(range(9), 0))
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 if parameter.requires_grad else 0.0)
    method.after_step(0.0, found.kept)
    for old, one in zip(before, followers, strict=True):
        now = parameters_to_vector(one.module.parameters())
        torch.testing.assert_close(now, 0.9 * old + 0.1 * _source(one), rtol=1e-12, atol=1e-15)


def _source(follower: torch.nn.Module) -> torch.Tensor:
    return parameters_to_vector(follower.source.parameters()).detach()  # type: ignore[operator]  # a Momentum


def test_crops_follow_the_view_and_a_single_base_crop_is_refused() -> None:
    method = VoCo(ToyBackbone(), augment=Augment(size=(16, 112, 112)))
    assert (method.crop.tolist(), method.augment.size) == ([16, 28, 28], (16, 112, 112))
    method.backbone.min_size = (4, 40, 16)  # type: ignore[misc]  # of this one network
    assert VoCo(method.backbone, augment=Augment(size=(16, 112, 112))).augment.size == (16, 160, 112)
    with pytest.raises(RecipeError, match="at least two"):
        VoCoConfig.checked({"grid": (1, 1, 1)}, "method.voco")

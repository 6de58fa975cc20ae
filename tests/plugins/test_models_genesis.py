"""Models Genesis: which views are corrupted and how, the clean target, and the loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ssl3d.data.rng import Rng
from ssl3d_plugins.methods.models_genesis import ModelsGenesis, blocks
from tests.plugins.small import SMALL, VOLUMES, batch_of, views_of

SOURCE = SMALL["models genesis"].source()
NONE = {"shuffle": 0.0, "curve": 0.0, "paint": 0.0}


def small(**settings: Any) -> ModelsGenesis:
    method = SMALL["models genesis"].build(**settings)
    assert isinstance(method, ModelsGenesis)
    return method


def test_the_target_is_the_clean_view_scaled_to_its_range_and_the_input_has_its_units() -> None:
    method = small(**NONE)
    view = method.augment(SOURCE.volumes(range(VOLUMES)), Rng(3, 1, range(VOLUMES)))
    corrupted, clean = views_of(method, SOURCE).tensors
    torch.testing.assert_close(corrupted, view, rtol=1e-5, atol=1e-5)
    for one, scaled in zip(view, clean, strict=True):
        torch.testing.assert_close(scaled, (one - one.min()) / (one.max() - one.min()), rtol=1e-5, atol=1e-6)
        assert (scaled.min(), scaled.max()) == (0, 1)
    with_all = views_of(small(shuffle=1.0, curve=1.0, paint=1.0), SOURCE).tensors
    assert torch.equal(with_all[1], clean)
    assert all(not torch.equal(*pair) for pair in zip(with_all[0], corrupted, strict=True))


@pytest.mark.parametrize("name", NONE)
def test_each_corruption_has_a_chance_and_leaves_the_draws_of_the_others(name: str) -> None:
    positions = range(200)
    method = small(windows=30, **{name: 0.3})
    clean = torch.rand(1, 1, 22, 11, 13).expand(200, -1, -1, -1, -1)
    rng = Rng(0, 0, positions)
    function = {"shuffle": method.shuffled, "curve": method.curved, "paint": method.painted}[name]
    changed = (function(clean, rng) != clean).flatten(1).any(dim=1)
    assert 0.2 < changed.float().mean() < 0.4
    never = Rng(0, 0, positions)
    with_none = small(windows=30, **{name: 0.0})
    function = {"shuffle": with_none.shuffled, "curve": with_none.curved, "paint": with_none.painted}[name]
    assert torch.equal(function(clean, never), clean)
    assert np.array_equal(rng.numbers(), never.numbers())


@pytest.mark.parametrize("inner", [True, False])
def test_painting_is_noise_inside_or_outside_of_blocks(inner: bool) -> None:
    method = small(paint=1.0, inner=float(inner), more=1.0)
    clean = torch.full((40, 1, 35, 49, 42), 2.0)  # noise is below 1
    noise = method.painted(clean, Rng(0, 0, range(40)))[:, 0] != 2
    kept = noise.logical_not()
    if inner:
        assert noise.flatten(1).any(dim=1).all()
        noise[:, 3:-3, 3:-3, 3:-3] = False
        assert not noise.any()  # a margin of three voxels
        assert 5 * (1 / 6) ** 3 / 4 < 1 - kept.float().mean() < 5 * (1 / 3) ** 3
    else:
        assert kept.flatten(1).any(dim=1).all()
        kept[:, 3:-3, 3:-3, 3:-3] = False
        assert not kept.any()
    painted = method.painted(clean, Rng(0, 0, range(40)))
    values = painted[painted != 2]
    assert (values.min() >= 0, values.max() < 1) == (True, True)
    assert abs(float(values.mean()) - 0.5) < 0.01


def test_blocks_have_the_sides_of_the_authors_code_and_fit_into_the_view() -> None:
    draws = np.random.default_rng(0).random((2, 2000, 5, 3))
    for inner, low, high in ((True, (5, 8, 7), (11, 16, 14)), (False, (15, 21, 18), (20, 28, 24))):
        start, side = blocks(draws[0], draws[1], np.full(2000, inner), (35, 49, 42))
        assert side.min((0, 1)).tolist() == list(low)
        assert side.max((0, 1)).tolist() == list(high)
        assert start.min((0, 1)).tolist() == [3, 3, 3]
        assert (start + side).max((0, 1)).tolist() == [32, 46, 39]
    for inner in (True, False):
        start, side = blocks(draws[0], draws[1], np.full(2000, inner), (1, 4, 9))  # few slices
        assert side.min() == 1
        assert start.min() == 0
        assert ((start + side) <= np.array([1, 4, 9])).all()


def test_corruptions_are_drawn_per_volume_whatever_else_is_in_the_batch() -> None:
    method = small()
    whole, alone = views_of(method, SOURCE), views_of(method, SOURCE, range(5, 7))
    for ours, theirs in zip(whole.tensors, alone.tensors, strict=True):
        assert torch.equal(ours[5:7], theirs)


def test_loss_is_the_squared_error_over_all_voxels_written_out() -> None:
    method = small()
    batch = batch_of(method, SOURCE)
    clean = views_of(method, SOURCE).tensors[1].double()
    maps = method.backbone.forward_features(views_of(method, SOURCE).tensors[0].double())
    restored = 1 / (1 + torch.exp(-method.decoder(maps)))
    expected = (restored - clean).square().sum() / clean.numel()
    torch.testing.assert_close(method.loss(batch).value, expected, rtol=1e-11, atol=0)

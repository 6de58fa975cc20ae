"""Changes of intensity: each alone, against its formula, and how often and how strongly it is drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from ssl3d.data import intensity
from ssl3d.data.augment import Augment, View, draw_views, whole
from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes
from ssl3d.recipe import AugmentRecipe
from tests.train.ragged import EVERYTHING, PLAIN, SHAPES, SIZE, batch, volumes


def test_standardised_voxels_have_mean_0_and_deviation_1() -> None:
    data = volumes((6, 13, 17), dtype=torch.float16)
    view = whole(data, (6, 13, 17))
    assert view.mean().abs() < 1e-5
    assert view.std(correction=0) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("exponent", [0.6, 1.0, 1.9])
def test_gamma_keeps_range_and_order_and_bends_the_middle(exponent: float) -> None:
    before = torch.linspace(-2, 3, 2 * 3 * 5 * 7).view(2, 3, 5, 7)
    after = intensity.gamma(before.clone(), exponent)
    assert (after.flatten().diff() > 0).all()
    torch.testing.assert_close(after, -2 + 5 * ((before + 2) / 5) ** exponent)


def test_contrast_keeps_the_mean_and_scales_the_deviation() -> None:
    before = whole(volumes((6, 13, 17)), SIZE)[0] + 0.7
    after = intensity.contrast(before.clone(), 1.3)
    torch.testing.assert_close(after.mean(), before.mean())
    torch.testing.assert_close(after.std(), before.std() * 1.3)


def test_brightness_shifts() -> None:
    before = whole(volumes((6, 13, 17)), SIZE)[0]
    torch.testing.assert_close(intensity.contrast(before.clone(), 1.0, shift=-0.2) + 0.2, before)


@pytest.mark.parametrize("sigma", [0.1, 2 / 3, 1.0, 2.0])
@pytest.mark.parametrize("shape", [(2, 5, 13, 11), (1, 3, 2, 9), (1, 3, 1, 1)])
def test_blur_is_a_gaussian_in_the_plane(sigma: float, shape: tuple[int, ...]) -> None:
    before = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected, radius = before.double().numpy(), max(1, math.ceil(3 * sigma))
    for axis in (2, 3):
        expected = ndimage.gaussian_filter1d(expected, sigma, axis=axis, mode="nearest", radius=radius)
    np.testing.assert_allclose(intensity.blur(before.clone(), sigma).numpy(), expected, atol=1e-6)


def test_noise_has_its_deviation_and_is_the_volumes_own() -> None:
    recipe = PLAIN.model_copy(update={"noise": 0.5, "crop": (1.0, 1.0), "depth": (1.0, 1.0)})
    views = list(draw_views(recipe, Rng(0, 0, range(6)), 16))
    data = batch(*[torch.full((1, 4, 5, 6), 9, dtype=torch.uint8)] * 6)
    made = Augment(recipe, (16, 30, 40))(data, Rng(0, 0, range(6)))
    expected = torch.tensor([view.noise for view in views])
    torch.testing.assert_close(made.std(dim=(1, 2, 3, 4)), expected, rtol=0.03, atol=0)
    assert torch.corrcoef(made.flatten(1)).fill_diagonal_(0).abs().max() < 0.04


def test_noise_is_normal_and_white_within_a_view() -> None:
    made = intensity.noise(torch.zeros(2, 16, 112, 112), 1.0, (0.123, 0.789)).flatten().double().numpy()
    assert abs(made.mean()) < 0.01
    assert made.std() == pytest.approx(1, abs=0.01)
    assert (made**4).mean() == pytest.approx(3, abs=0.1)
    assert (np.abs(made) > 3).mean() == pytest.approx(0.0027, abs=0.0005)
    for lag in (1, 2, 112, 112 * 112):
        assert abs(np.corrcoef(made[lag:], made[:-lag])[0, 1]) < 0.01


def test_slice_dropout_replaces_whole_slices_by_the_mean_up_to_its_share() -> None:
    recipe = PLAIN.model_copy(update={"slice_dropout": 0.5})
    data = batch(*[volumes((9, 20, 20)).voxels[0]] * 200)
    empty = Augment(recipe, (10, 7, 7))(data, Rng(0, 0, range(200))).flatten(3).eq(0).all(dim=3)[:, 0]  # (B, D)
    assert set(empty.sum(dim=1).tolist()) == {0, 1, 2, 3, 4, 5}
    assert empty.double().mean(dim=0).sub(0.25).abs().max() < 0.12


@pytest.mark.parametrize("name", ["brightness", "contrast", "gamma", "blur", "noise", "rotate", "slice_dropout"])
def test_turning_a_change_off_removes_it_and_moves_no_other(name: str) -> None:
    on = list(draw_views(EVERYTHING, Rng(0, 0, range(30)), 10))
    off = list(draw_views(EVERYTHING.model_copy(update={name: 0.0}), Rng(0, 0, range(30)), 10))
    field = {"blur": "sigma", "rotate": "angle", "slice_dropout": "dropped"}.get(name, name)
    neutral = getattr(View(), field)
    assert {getattr(view, field) for view in off} == {neutral}
    assert len({getattr(view, field) for view in on}) > 15
    for a, b in zip(on, off, strict=True):
        others = [key for key in vars(a) if key != field]
        assert all(getattr(a, key) == getattr(b, key) for key in others)


def test_a_recipe_with_everything_off_is_the_whole_volume() -> None:
    recipe = PLAIN.model_copy(update={"crop": (1.0, 1.0), "depth": (1.0, 1.0)})
    data = volumes(*SHAPES)
    for shape, made in zip(SHAPES, range(7), strict=True):
        one = Volumes(data.voxels[made : made + 1], data.mean[made : made + 1], data.std[made : made + 1])
        view = Augment(recipe, shape)(one, Rng(0, 0, [made]))
        torch.testing.assert_close(view, whole(one, shape), rtol=0, atol=1e-4)


def test_flips_are_as_frequent_as_the_recipe_says() -> None:
    flips = np.array([view.flip for view in draw_views(AugmentRecipe(flip=(0, 0.3, 1)), Rng(0, 0, range(4000)), 8)])
    np.testing.assert_allclose(flips.mean(axis=0), [0, 0.3, 1], rtol=0, atol=0.03)
    assert set(flips[:, 0]) == {False}
    assert set(flips[:, 2]) == {True}

"""Augmentation: geometry against an independent reference, even depth, and independence of the batch."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from ssl3d.data.augment import Augment, View, draw_views, whole
from ssl3d.data.geometry import depth_weights
from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes
from ssl3d.recipe import AugmentRecipe
from tests.train.ragged import EVERYTHING, PLAIN, SHAPES, SIZE, batch, volumes


def raw(view: View, voxels: Tensor, size: tuple[int, int, int]) -> Tensor:
    """The view in the volume's own values."""
    return view.of(voxels, torch.tensor(0.0), torch.tensor(1.0), size)


def reference(view: View, voxels: Tensor, size: tuple[int, int, int]) -> np.ndarray:
    """Trilinear sampling at positions written down point by point, in float64."""
    _, D, H, W = voxels.shape
    k, i, j = np.meshgrid(*((np.arange(n) + 0.5) / n for n in size), indexing="ij")
    k, i, j = (1 - c if flipped else c for c, flipped in zip((k, i, j), view.flip, strict=True))
    kept = k * view.depth * D
    overlap = view.start + view.depth - 1
    skipped = (1 - view.depth) * D if overlap > 0 else view.start * D
    z = kept + np.where(kept < overlap * D, 0, skipped)
    h, w = view.height * H, view.width * W
    down, across = (i - 0.5) * h, (j - 0.5) * w
    y = view.y * (H - h) + h / 2 + math.cos(view.angle) * down - math.sin(view.angle) * across
    x = view.x * (W - w) + w / 2 + math.sin(view.angle) * down + math.cos(view.angle) * across
    at = np.stack([z, y, x]) - 0.5
    return np.stack([ndimage.map_coordinates(c.double().numpy(), at, order=1, mode="nearest") for c in voxels])


def random_view(generator: np.random.Generator, rotate: bool) -> View:
    """Geometry that shrinks no axis of an (1, 6, 20, 18) volume to (5, 13, 11) by 2, and depth not at all."""
    height, width, y, x, start = generator.uniform(0.3, 1, 5)
    flip = tuple(bool(flag) for flag in generator.integers(0, 2, 3))
    angle = generator.uniform(-3, 3) if rotate else 0.0
    return View(height, width, y, x, generator.uniform(0.3, 0.83), start, angle, flip)  # type: ignore[arg-type]


def global_state() -> tuple[object, ...]:
    return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()


# Geometry


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
def test_crop_scale_flip_and_rotation_are_one_trilinear_sampling(rotate: bool, dtype: torch.dtype) -> None:
    generator = np.random.default_rng(0)
    voxels = (volumes((2, 6, 20, 18)).voxels[0] / 255).mul(1 if dtype.is_floating_point else 255).to(dtype)
    for _ in range(40):
        view = random_view(generator, rotate)
        expected = reference(view, voxels, SIZE)
        assert np.abs(raw(view, voxels, SIZE).numpy() - expected).max() < 1e-4 * (1 if dtype.is_floating_point else 255)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
def test_the_whole_of_a_volume_at_its_own_size_is_the_volume(dtype: torch.dtype) -> None:
    voxels = volumes((2, 4, 13, 9), dtype=dtype).voxels[0]
    torch.testing.assert_close(raw(View(), voxels, (4, 13, 9)), voxels.float(), rtol=0, atol=1e-3)
    torch.testing.assert_close(whole(batch(voxels, mean=0, std=1), (4, 13, 9))[0], voxels.float(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flip_reverses_its_axis_and_no_other(axis: int) -> None:
    voxels = volumes((8, 30, 26)).voxels[0]
    where = {"height": 0.7, "width": 0.6, "y": 0.3, "x": 0.9, "depth": 0.6, "start": 0.7}
    flip = tuple(index == axis for index in range(3))
    flipped = raw(View(**where, flip=flip), voxels, SIZE)  # type: ignore[arg-type]
    torch.testing.assert_close(flipped, raw(View(**where), voxels, SIZE).flip(axis + 1), rtol=0, atol=1e-3)  # type: ignore[arg-type]


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    voxels = volumes((3, 14, 14)).voxels[0]
    turned = raw(View(angle=math.pi / 2), voxels, (3, 14, 14))
    torch.testing.assert_close(turned, voxels.float().rot90(-1, (2, 3)), rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(40, 61, 67), (5, 90, 31), (12, 26, 44)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_shrinking_keeps_a_ramp_in_place(shape: tuple[int, int, int], axis: int) -> None:
    """Averaging against aliasing must not move anything: on a ramp the value is the position."""
    tolerance = 0.1 if axis == 0 else 0.02  # a sampled triangle filter is centred to a small part of a slice only
    place = [1, 1, 1]
    place[axis] = shape[axis]
    voxels = (torch.arange(shape[axis]) + 0.5).view(1, *place).expand(1, *shape)
    view = View(height=0.8, width=0.9, y=0.5, x=0.4, depth=0.75, start=0.1)
    inner = raw(view, voxels, SIZE)[0][1:-1, 1:-1, 1:-1]
    expected = torch.from_numpy(reference(view, voxels, SIZE))[0][1:-1, 1:-1, 1:-1]
    torch.testing.assert_close(inner.double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("make", ["augment", "whole"])
def test_shrinking_by_two_and_more_does_not_alias(make: str) -> None:
    checkerboard = ((torch.arange(60)[:, None] + torch.arange(64)) % 2).float().view(1, 1, 60, 64).expand(1, 8, 60, 64)
    still = PLAIN.model_copy(update={"crop": (1.0, 1.0), "depth": (1.0, 1.0)})
    data = batch(checkerboard, mean=0.5, std=1.0)
    view = Augment(still, SIZE)(data, Rng(0, 0, [0])) if make == "augment" else whole(data, SIZE)
    assert view.abs().max() < 0.1  # 0.5 where it aliases


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_view_holds_a_value_that_its_volume_does_not(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    voxels = volumes(shape, dtype=dtype).voxels[0] + torch.tensor(20).to(dtype)
    recipe = PLAIN.model_copy(update={"rotate": 180.0, "crop": (0.05, 1.0), "depth": (0.05, 1.0)})
    data = batch(*[voxels] * 40, mean=0, std=1)
    views = Augment(recipe, SIZE)(data, Rng(0, 0, range(40)))
    assert views.min() >= voxels.min() - 1e-3
    assert views.max() <= voxels.max() + 1e-3


def test_crops_have_the_area_and_aspect_of_the_recipe_and_lie_inside() -> None:
    recipe = AugmentRecipe(crop=(0.2, 0.6), aspect=(0.5, 2.0), depth=(0.3, 0.5), rotate=15)
    views = list(draw_views(recipe, Rng(0, 0, range(4000)), 8))
    height, width = np.array([view.height for view in views]), np.array([view.width for view in views])
    area, aspect = height * width, height / width
    assert 0.2 <= area.min() < 0.21
    assert 0.59 < area.max() <= 0.6
    assert area.mean() == pytest.approx(0.4, abs=0.01)
    assert 0.5 - 1e-9 <= aspect.min() < 0.52
    assert 1.9 < aspect.max() <= 2 + 1e-9
    assert max(height.max(), width.max()) <= 1
    assert {0.3 <= view.depth <= 0.5 and 0 <= view.y <= 1 and 0 <= view.x <= 1 for view in views} == {True}
    assert max(abs(view.angle) for view in views) == pytest.approx(math.radians(15), rel=0.01)


def test_a_crop_of_all_of_the_plane_is_all_of_it_whatever_the_aspect() -> None:
    views = draw_views(AugmentRecipe(crop=(1, 1), aspect=(2, 3)), Rng(0, 0, range(20)), 8)
    assert {(round(view.height, 9), round(view.width, 9)) for view in views} == {(1.0, 1.0)}


# Depth


@pytest.mark.parametrize("n", [1, 2, 16, 17, 61, 200])
@pytest.mark.parametrize("slices", [1, 5, 16])
def test_depth_weights_are_averages(n: int, slices: int) -> None:
    for share, start in np.random.default_rng(0).uniform(0.05, 1, (50, 2)):
        weights = depth_weights(slices, n, share, start)
        assert weights.shape == (slices, n)
        assert weights.min() >= 0
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)


def test_a_view_holds_its_slices_in_order_and_leaves_out_one_run() -> None:
    for share, start in np.random.default_rng(0).uniform(0.3, 1, (200, 2)):
        places = depth_weights(20, 20, share, start) @ np.arange(20)
        steps = np.diff(places)
        assert (steps >= -1e-4).all()
        assert (steps > share + 1.001).sum() <= 1  # over the run, if it lies inside
        assert (depth_weights(20, 20, share, start, flip=True) @ np.arange(20) == places[::-1]).all()


@pytest.mark.parametrize("depth", [(0.6, 1.0), (0.9, 1.0), (0.1, 0.4), (0.5, 0.5)])
@pytest.mark.parametrize("n", [17, 32, 61])
def test_with_gaps_every_slice_is_reached_equally_often(n: int, depth: tuple[float, float]) -> None:
    """Channel c of this volume is 1 in slice c alone, so its mean over a view is the share of slice c in it."""
    marked = torch.eye(n, dtype=torch.uint8).view(n, n, 1, 1)
    draws = 3000
    recipe = PLAIN.model_copy(update={"depth": depth, "depth_gap": True})
    views = Augment(recipe, (16, 1, 1))(batch(*[marked] * draws, mean=0, std=1), Rng(0, 0, range(draws)))
    share = views.mean(dim=(0, 2, 3, 4)) * n
    reached = (views.amax(dim=(2, 3, 4)) > 0.05).double().mean(dim=0)
    assert (share - 1).abs().max() < 0.1
    assert (reached / reached.mean() - 1).abs().max() < 0.1


@pytest.mark.parametrize("depth", [(0.6, 1.0), (0.1, 0.4)])
def test_without_gaps_a_view_is_one_run_of_slices_at_every_place(depth: tuple[float, float]) -> None:
    views = draw_views(AugmentRecipe(depth=depth), Rng(0, 0, range(2000)), 16)
    starts, shares = (np.array([getattr(view, name) for view in views]) for name in ("start", "depth"))
    assert (starts + shares <= 1 + 1e-12).all()
    assert ((shares >= depth[0]) & (shares <= depth[1])).all()
    places = starts / (1 - shares)  # of the first slice in the room there is
    np.testing.assert_allclose(np.quantile(places, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.04)
    for view in views[:200]:
        seen = depth_weights(40, 20, view.depth, view.start) @ np.arange(20.0)
        assert np.diff(seen).max() < 1.001  # no gap
        low, high = view.box()[0]
        np.testing.assert_allclose([low, high], [view.start, view.start + view.depth])


def test_one_augmentation_serves_all_slices() -> None:
    slice_ = volumes((1, 30, 26)).voxels[0]
    recipe = EVERYTHING.model_copy(update={"noise": 0.0, "slice_dropout": 0.0})
    views = Augment(recipe, SIZE)(batch(*[slice_.expand(1, 7, 30, 26)] * 20), Rng(0, 0, range(20)))
    torch.testing.assert_close(views, views[:, :, :1].expand_as(views), rtol=0, atol=1e-4)
    assert views.std(dim=0).min() > 0.05  # while volumes differ from each other


# Independence of the batch


@pytest.mark.parametrize("size", [SIZE, (4, 16, 16), (3, 1, 7)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
def test_a_view_has_the_same_bits_however_the_batch_is_split(size: tuple[int, int, int], dtype: torch.dtype) -> None:
    data, augment = volumes(*SHAPES, dtype=dtype), Augment(EVERYTHING, size)
    together, all_of_them = augment(data, Rng(5, 3, range(7))), whole(data, size)
    for split in [(1,) * 7, (2, 2, 2, 1), (3, 4), (4, 3), (6, 1), (1, 6), (5, 2)]:
        for low, high in pairwise(np.cumsum((0, *split)).tolist()):
            part = Volumes(data.voxels[low:high], data.mean[low:high], data.std[low:high])
            assert torch.equal(augment(part, Rng(5, 3, range(low, high))), together[low:high])
            assert torch.equal(whole(part, size), all_of_them[low:high])


def test_a_view_does_not_depend_on_the_volumes_beside_it() -> None:
    augment, data = Augment(EVERYTHING, SIZE), volumes(*SHAPES)
    others = volumes((30, 50, 20), SHAPES[0], (2, 2, 2), seed=1)
    mixed = Volumes(
        (others.voxels[0], data.voxels[3]), torch.tensor([1.0, data.mean[3]]), torch.tensor([9.0, data.std[3]])
    )
    assert torch.equal(augment(data, Rng(0, 0, range(7)))[3], augment(mixed, Rng(0, 0, [40, 3]))[1])


def test_seed_step_position_and_call_each_make_another_view() -> None:
    augment, data = Augment(EVERYTHING, SIZE), volumes(SHAPES[0])
    rng = Rng(0, 0, [0])
    views = [augment(data, rng), augment(data, rng)]
    views += [augment(data, Rng(*key)) for key in [(1, 0, [0]), (0, 1, [0]), (0, 0, [1])]]
    for i, view in enumerate(views):
        assert all(not torch.equal(view, other) for other in views[:i])


def test_the_input_and_the_global_generators_are_left_alone() -> None:
    for dtype in (torch.uint8, torch.float16, torch.float32):
        data = volumes(*SHAPES, dtype=dtype)
        copies = [tensor.clone() for tensor in (*data.voxels, data.mean, data.std)]
        before = global_state()
        Augment(EVERYTHING, SIZE)(data, Rng(0, 0, range(7)))
        Augment(PLAIN, (1, 1, 1))(data, Rng(0, 0, range(7)))
        whole(data, SIZE)
        assert global_state() == before
        assert all(torch.equal(a, b) for a, b in zip(copies, (*data.voxels, data.mean, data.std), strict=True))


def test_views_are_float32_without_gradients_under_autocast_as_well() -> None:
    data, augment = volumes(*SHAPES), Augment(EVERYTHING, SIZE)
    view, full = augment(data, Rng(0, 0, range(7))), whole(data, SIZE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(augment(data, Rng(0, 0, range(7))), view)
        assert torch.equal(whole(data, SIZE), full)
    for made in (view, full):
        assert made.shape == (7, 1, *SIZE)
        assert made.dtype == torch.float32
        assert not made.requires_grad


@pytest.mark.parametrize("value", [0, 137, 255])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_constant_volume_stays_finite(shape: tuple[int, int, int], value: int) -> None:
    voxels = torch.full((1, *shape), value, dtype=torch.uint8)
    data = Volumes((voxels,) * 10, torch.full((10,), float(value)), torch.zeros(10))  # 0: the worst that can be handed
    assert Augment(EVERYTHING, SIZE)(data, Rng(0, 0, range(10))).abs().max() < 5
    assert whole(data, SIZE).abs().max() < 1e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_makes_the_same_views() -> None:
    data = volumes(*SHAPES)
    on_gpu = Volumes(tuple(v.cuda() for v in data.voxels), data.mean.cuda(), data.std.cuda())
    augment = Augment(EVERYTHING, SIZE)
    gpu = augment(on_gpu, Rng(0, 0, range(7), torch.device("cuda")))
    torch.testing.assert_close(gpu.cpu(), augment(data, Rng(0, 0, range(7))), rtol=0, atol=1e-3)
    torch.testing.assert_close(whole(on_gpu, SIZE).cpu(), whole(data, SIZE), rtol=0, atol=1e-3)

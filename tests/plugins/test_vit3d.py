"""The vision transformer, its patches and positions, and the queue of keys."""

from __future__ import annotations

from collections import deque
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ssl3d.parts.queue import Queue
from ssl3d.parts.tokens import pick, sincos_positions, to_patches, token_grid, whole_patches
from ssl3d.train.cost import forward_flops
from ssl3d_plugins.backbones.vit3d import ViT3DBase, ViT3DConfig, ViT3DSmall, ViT3DTiny
from tests.plugins.small import SmallViT

PATCH = (2, 3, 2)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def vit(class_token: bool = False, positions: Literal["sincos", "rotary"] = "sincos") -> SmallViT:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SmallViT(ViT3DConfig(patch=PATCH, class_token=class_token, positions=positions)).double()


def test_patches_are_in_the_order_of_depth_height_width() -> None:
    volume = noise(2, 3, 4, 9, 6)
    patches = to_patches(volume, PATCH)
    assert patches.shape == (2, 18, 3 * 12)
    for number in range(18):
        d, h, w = number // 9 * 2, number // 3 % 3 * 3, number % 3 * 2
        expected = volume[:, :, d : d + 2, h : h + 3, w : w + 2].flatten(1)
        assert torch.equal(patches[:, number], expected)


@pytest.mark.parametrize(
    ("size", "grid", "whole"), [((4, 9, 6), (2, 3, 3), (4, 9, 6)), ((5, 2, 7), (3, 1, 4), (4, 3, 6))]
)
def test_sides_that_are_no_multiple_of_the_patch_are_padded_with_zeros(
    size: tuple[int, int, int], grid: tuple[int, int, int], whole: tuple[int, int, int]
) -> None:
    assert token_grid(size, PATCH) == grid
    assert whole_patches(size, PATCH) == whole
    volume = noise(1, 1, *size)
    D, H, W = (n * p - have for n, p, have in zip(grid, PATCH, size, strict=True))
    assert torch.equal(to_patches(volume, PATCH), to_patches(F.pad(volume, (0, W, 0, H, 0, D)), PATCH))
    assert to_patches(volume, PATCH).sum() == pytest.approx(float(volume.sum()))


def test_positions_are_sines_and_cosines_of_the_place_along_each_axis() -> None:
    found = sincos_positions((2, 3, 4), 26, noise(1)).reshape(2, 3, 4, 26)
    assert torch.equal(found[..., 24:], torch.zeros(2, 3, 4, 2).double())  # what thirds leave over
    d, h, w = 1, 2, 3
    for axis, place in enumerate((d, h, w)):
        for k in range(4):
            angle = torch.tensor(place * 10000 ** (-k / 4))
            assert float(found[d, h, w, 8 * axis + k]) == pytest.approx(float(angle.sin()), abs=1e-6)
            assert float(found[d, h, w, 8 * axis + 4 + k]) == pytest.approx(float(angle.cos()), abs=1e-6)
    assert len(found.flatten(0, 2).unique(dim=0)) == 24


@pytest.mark.parametrize("class_token", [False, True])
def test_tokens_maps_and_features_belong_together(class_token: bool) -> None:
    network, volume = vit(class_token), noise(2, 1, 5, 9, 7)
    (pooled, tokens), maps = network.forward_tokens(volume), network.forward_features(volume)
    assert tokens.shape == (2, 3 * 3 * 4, 12)
    assert [tuple(one.shape) for one in maps] == [(2, 12, 3, 3, 4)] * 4
    assert torch.equal(maps[-1].flatten(2).transpose(1, 2), tokens)
    features = network(volume)
    assert features.shape == (2, 12)
    assert torch.equal(pooled, features)
    found = network.readouts(volume)
    assert torch.equal(found["last"], features)
    assert torch.allclose(found["mean"], tokens.mean(1))
    assert torch.allclose(features, tokens.mean(1)) is not class_token


@pytest.mark.parametrize("positions", ["sincos", "rotary"])
@pytest.mark.parametrize("class_token", [False, True])
def test_kept_tokens_do_not_depend_on_dropped_patches(
    class_token: bool, positions: Literal["sincos", "rotary"]
) -> None:
    network, volume = vit(class_token, positions), noise(2, 1, 4, 9, 6)
    keep = torch.tensor([[5, 0, 17], [2, 3, 4]])
    tokens = network.forward_tokens(volume, keep=keep).patches
    assert tokens.shape == (2, 3, 12)
    other = volume.clone()
    other[0, :, 2:, :6] += 1  # patches 9 to 14 of the first volume
    assert torch.equal(network.forward_tokens(other, keep=keep).patches, tokens)
    every = torch.arange(18).expand(2, -1)
    shuffled = every.flip(1)
    torch.testing.assert_close(
        network.forward_tokens(volume, keep=shuffled).patches.flip(1),
        network.forward_tokens(volume).patches,
        rtol=1e-10,
        atol=1e-12,
    )


def test_rotary_positions_tell_equal_patches_apart_by_their_neighbours() -> None:
    """All tokens of a volume of equal patches are equal; one other patch moves each of them by its distance."""
    network, volume = vit(positions="rotary"), torch.ones(1, 1, 4, 9, 6).double()
    with torch.no_grad():
        same = network.forward_tokens(volume).patches
        volume[..., :2, :3, :2] = -1  # the first patch
        moved = network.forward_tokens(volume).patches
    torch.testing.assert_close(same[:, :1].expand_as(same), same)
    assert len(moved[0].round(decimals=9).unique(dim=0)) == 18


def test_a_mask_token_replaces_embeddings_and_not_positions() -> None:
    network, volume, token = vit(), noise(2, 1, 4, 9, 6), noise(12)
    nowhere, everywhere = torch.zeros(2, 18, dtype=torch.bool), torch.ones(2, 18, dtype=torch.bool)
    unmasked = network.forward_tokens(volume, mask=nowhere, mask_token=token)
    assert torch.equal(unmasked.patches, network.forward_tokens(volume).patches)
    hidden = network.forward_tokens(volume, mask=everywhere, mask_token=token).patches
    other = network.forward_tokens(noise(2, 1, 4, 9, 6) + 1, mask=everywhere, mask_token=token)
    assert torch.equal(hidden, other.patches)
    assert torch.equal(hidden[0], hidden[1])
    assert (hidden[0, 1:] - hidden[0, :-1]).norm(dim=1).min() > 1e-6


def test_pick_takes_tokens_by_index() -> None:
    tokens, indices = noise(2, 5, 3), torch.tensor([[4, 0], [1, 1]])
    assert torch.equal(pick(tokens, indices), torch.stack([tokens[0, [4, 0]], tokens[1, [1, 1]]]))


@pytest.mark.parametrize(("kind", "millions"), [(ViT3DTiny, 5.4), (ViT3DSmall, 21.4), (ViT3DBase, 85.3)])
def test_sizes_are_those_on_the_card(kind: type[ViT3DTiny], millions: float) -> None:
    with torch.device("meta"):
        network = kind()
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)
    assert f"{millions} million" in kind.card.summary


def test_cost_is_counted_without_computing() -> None:
    network = ViT3DTiny()
    tokens, width = 3 * 5 * 5, 192
    multiplies = tokens * 256 * width + 12 * (tokens * 12 * width**2 + 2 * tokens**2 * width)
    assert forward_flops(network, (12, 40, 40)) == 2 * multiplies


@settings(max_examples=30, deadline=None, derandomize=True)
@given(size=st.integers(1, 7), pushes=st.lists(st.integers(0, 10), max_size=6))
def test_a_queue_holds_the_newest_rows(size: int, pushes: list[int]) -> None:
    queue, expected, number = Queue(size, 2), deque(maxlen=size), 0
    for count in pushes:
        rows = torch.arange(number, number + count).float()[:, None].expand(-1, 2)
        number += count
        queue.push(rows)
        expected.extend(rows[:, 0].tolist())
    assert sorted(queue.held[:, 0].tolist()) == list(expected)
    again = Queue(size, 2)
    again.load_state_dict(queue.state_dict())
    assert torch.equal(again.held, queue.held)

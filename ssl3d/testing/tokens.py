"""Rules for backbones with tokens: what they return, and that dropped and masked patches are not seen."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from ssl3d.backbone import Tokens
from ssl3d.testing.networks import BackboneKit
from ssl3d.testing.runner import NotApplicable, require

CLOSE = 1e-5  # of float32 features


@torch.no_grad()
def check_tokens_have_the_stated_shape(kit: BackboneKit) -> None:
    """forward_tokens gives Tokens: one (B, T, embed_dim) per patch, and those of kept patches in the order of keep."""
    x, grid = _patched(kit)
    tokens, expected = kit.built.forward_tokens(x), (2, prod(grid), kit.built.embed_dim)
    given = type(tokens).__name__
    require(isinstance(tokens, Tokens), f"forward_tokens gives a {given}; return Tokens(pooled, patches)")
    shape = tuple(tokens.patches.shape)
    require(shape == expected, f"forward_tokens gives {shape} for {grid} patches; return {expected}, no class token")
    keep = torch.tensor([[2, 0], [1, 3]])
    kept, turned = (kit.built.forward_tokens(x, keep=order).patches for order in (keep, keep.flip(1)))
    shape = tuple(kept.shape)
    require(shape == (2, 2, expected[2]), f"forward_tokens gives {shape} for 2 kept patches; return those tokens alone")
    require(_close(kept, turned.flip(1)), "forward_tokens does not return the kept tokens in the order of keep")


@torch.no_grad()
def check_pooled_tokens_are_the_features(kit: BackboneKit) -> None:
    """Where nothing is dropped or masked, the pooled tokens are the features that forward gives."""
    x, _ = _patched(kit)
    pooled, features = kit.built.forward_tokens(x).pooled, kit.built(x)
    require(_close(pooled, features), "forward_tokens gives other pooled tokens than forward; return its features")


@torch.no_grad()
def check_dropped_patches_are_not_seen(kit: BackboneKit) -> None:
    """The voxels of patches that are not kept change no token, nor the pooled ones."""
    x, grid = _patched(kit)
    keep = torch.tensor([[2, 0], [2, 0]])
    changed = _change_patch(kit, x, grid, 1)
    same = _alike(kit.built.forward_tokens(x, keep=keep), kit.built.forward_tokens(changed, keep=keep))
    require(same, "tokens change with the voxels of a patch that keep leaves out; drop it before the first block")


@torch.no_grad()
def check_masked_patches_are_not_seen(kit: BackboneKit) -> None:
    """The voxels of masked patches change no token: the mask token takes the place of their embedding."""
    x, grid = _patched(kit)
    mask = torch.zeros(2, prod(grid), dtype=torch.bool)
    mask[:, 1] = True
    first, second = torch.randn(2, kit.built.embed_dim, generator=torch.Generator().manual_seed(2))
    tokens = [
        kit.built.forward_tokens(volumes, mask=mask, mask_token=mask_token)
        for volumes, mask_token in ((x, first), (_change_patch(kit, x, grid, 1), first), (x, second))
    ]
    require(
        _alike(tokens[0], tokens[1]), "tokens change with the voxels of a masked patch; mask before the first block"
    )
    require(
        not _close(tokens[0].patches, tokens[2].patches),
        "tokens do not change with mask_token; put it in the masked patches' place",
    )


@lru_cache(maxsize=1)
def _patched(kit: BackboneKit) -> tuple[Tensor, tuple[int, int, int]]:
    """Volumes of whole patches, two or more along each axis, and their number along each."""
    if not kit.kind.tokens:
        raise NotApplicable("it has no tokens")
    d, h, w = (max(2, -(-least // patch)) for least, patch in zip(kit.kind.min_size, kit.built.patch_size, strict=True))
    size = [number * patch for number, patch in zip((d, h, w), kit.built.patch_size, strict=True)]
    return torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(1)), (d, h, w)


def _change_patch(kit: BackboneKit, x: Tensor, grid: tuple[int, int, int], number: int) -> Tensor:
    """Return volumes whose patch of this number, counted along W, then H, then D, differs."""
    _, rows, columns = grid
    place = (number // (rows * columns), number // columns % rows, number % columns)
    d, h, w = (slice(at * patch, (at + 1) * patch) for at, patch in zip(place, kit.built.patch_size, strict=True))
    changed = x.clone()
    changed[:, :, d, h, w] += 1 + torch.arange(changed[:, :, d, h, w][0].numel()).reshape(changed[:1, :, d, h, w].shape)
    return changed


def _alike(one: Tokens, other: Tokens) -> bool:
    return all(_close(*pair) for pair in zip(one, other, strict=True))


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=CLOSE, atol=CLOSE)

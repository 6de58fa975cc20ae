"""Patches of volumes and their positions, shared by vision transformers and methods that mask patches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int, int]


def token_grid(size: Sequence[int], patch: Size) -> Size:
    """Return how many patches cover a volume along D, H, W; the last ones may extend beyond it."""
    d, h, w = (-(-n // p) for n, p in zip(size, patch, strict=True))
    return d, h, w


def whole_patches(size: Sequence[int], patch: Size) -> Size:
    """Return the largest size within ``size`` that is made of whole patches; at least one patch."""
    d, h, w = (max(n // p, 1) * p for n, p in zip(size, patch, strict=True))
    return d, h, w


def to_patches(volume: Tensor, patch: Size) -> Tensor:
    """Cut volumes (B, C, D, H, W) into patches (B, T, C * voxels), in the order of D, then H, then W.

    A side that is not a multiple of the patch is padded at its end with zeros, the mean of a standardised volume.
    """
    (d, h, w), (p, q, r) = token_grid(volume.shape[2:], patch), patch
    B, C, D, H, W = volume.shape
    padded = F.pad(volume, (0, w * r - W, 0, h * q - H, 0, d * p - D))
    split = padded.reshape(B, C, d, p, h, q, w, r).permute(0, 2, 4, 6, 1, 3, 5, 7)  # (B, d, h, w, C, p, q, r)
    return split.reshape(B, d * h * w, C * p * q * r)


def sincos_positions(grid: Size, width: int, like: Tensor) -> Tensor:
    """Return fixed sine-cosine embeddings of the positions on a grid, (T, width).

    A third of the width encodes each axis, as in a one-dimensional transformer embedding (Vaswani et al. 2017,
    section 3.5); the remainder of the width is zero.

    Args:
        grid: patches along D, H, W.
        width: width of the embedding, at least 6.
        like: a tensor with the required dtype and device.
    """
    count = width // 6
    frequencies = 10000.0 ** -(torch.arange(count, device=like.device) / count)  # (width / 6,)
    places = torch.cartesian_prod(*(torch.arange(n, device=like.device) for n in grid))  # (T, 3)
    angles = places[:, :, None] * frequencies  # (T, 3, width / 6)
    waves = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)  # (T, 6 * (width // 6))
    return F.pad(waves, (0, width - waves.shape[1])).to(like.dtype)


def rotary_positions(grid: Size, width: int, like: Tensor) -> Tensor:
    """Return the sines and cosines that rotate queries and keys by their positions on a grid, (T, 2 * width).

    Rotary embeddings (Su et al. 2021, arXiv 2104.09864) of three axes: pairs of neighbouring features, a third of them
    for each axis, turn with the position along it; the remainder of the width does not turn. The layout is that of
    ``timm.layers.apply_rot_embed_cat``.

    Args:
        grid: patches along D, H, W.
        width: width of an attention head, at least 6.
        like: a tensor with the required dtype and device.
    """
    count = width // 6
    frequencies = 10000.0 ** -(torch.arange(count, device=like.device) / count)  # (width / 6,)
    places = torch.cartesian_prod(*(torch.arange(n, device=like.device) for n in grid))  # (T, 3)
    angles = (places[:, :, None] * frequencies).flatten(1).repeat_interleave(2, dim=1)  # (T, 6 * (width // 6))
    angles = F.pad(angles, (0, width - angles.shape[1]))  # (T, width)
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(like.dtype)


def pick(tokens: Tensor, indices: Tensor) -> Tensor:
    """Return the tokens (B, K, F) at the given indices (B, K) among (B, T, F)."""
    return tokens.gather(1, indices[..., None].expand(-1, -1, tokens.shape[2]))

"""A decoder from a backbone's feature maps to the voxels of the view: a light U-Net (Ronneberger et al. 2015).

https://arxiv.org/abs/1505.04597. From the coarsest map on, features are enlarged to the size of the next finer map, to
which they are added, up to the size of the view. Maps of one size, as transformers have, are added together. Sizes are
doubled at most once per convolution, by repeating voxels: unlike linear interpolation this has a deterministic gradient
on a GPU. With group norm a volume's prediction does not depend on its neighbours, so accumulation is exact.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.backbone import Backbone
from ssl3d.parts.norm import groups
from ssl3d.parts.tokens import Size

DecoderWidth = Annotated[int, Field(ge=8)] | Literal["auto"]
WIDEST, NARROWEST = 512, 8  # channels at the coarsest map, chosen automatically, and at the finest


class UNetDecoder(nn.Module):
    """Feature maps, fine to coarse, to voxels (B, K, D, H, W).

    >>> self.decoder = UNetDecoder(map_shapes(self.backbone, size), size, outputs=1)
    >>> voxels = self.decoder(self.backbone.forward_features(view))

    Args:
        shapes: (F, D, H, W) of each map, fine to coarse.
        size: (D, H, W) of the view.
        outputs: channels K of the result.
        width: channels at the coarsest map, half as many after each step to a finer size, and at least 8; auto: as many
            as the coarsest map has, and at most 512.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int, int, int]], size: Size, outputs: int, width: DecoderWidth = "auto"
    ) -> None:
        super().__init__()
        before = wide = min(shapes[-1][0], WIDEST) if width == "auto" else width
        self.sizes: list[Size] = []  # coarse to fine
        self.project, self.enlarge, self.refine = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, (step, channels) in enumerate(_steps(shapes, size)):
            out = max(wide >> level, NARROWEST)
            self.sizes.append(step)
            self.project.append(nn.ModuleList(nn.Conv3d(one, out, 1) for one in channels))
            self.enlarge.append(_convolution(before, out) if level else nn.Identity())
            self.refine.append(_convolution(out, out))
            before = out
        self.predict = nn.Conv3d(before, outputs, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return predictions (B, K, D, H, W).

        Args:
            maps: (B, F_i, D_i, H_i, W_i), fine to coarse.
        """
        left = list(maps)
        x: Tensor | None = None
        for size, project, enlarge, refine in zip(self.sizes, self.project, self.enlarge, self.refine, strict=True):
            terms = [] if x is None else [enlarge(F.interpolate(x, size=size))]
            terms += [layer(left.pop()) for layer in cast("nn.ModuleList", project)]
            x = refine(sum(terms[1:], terms[0]))
        voxels: Tensor = self.predict(x)
        return voxels


def map_shapes(backbone: Backbone, size: Size) -> list[tuple[int, int, int, int]]:
    """Return the shapes (F, D, H, W) of a backbone's feature maps of a view, on meta tensors where possible.

    Args:
        backbone: not changed.
        size: (D, H, W) of the view.
    """
    twin = copy.deepcopy(backbone).eval()
    like = next(twin.parameters())
    with torch.no_grad():
        try:
            maps = twin.to("meta").forward_features(like.new_zeros(1, 1, *size, device="meta"))
        except (NotImplementedError, RuntimeError):  # it reads a value, which meta tensors do not have
            maps = copy.deepcopy(backbone).eval().forward_features(like.new_zeros(1, 1, *size, device=like.device))
    return [(one.shape[1], one.shape[2], one.shape[3], one.shape[4]) for one in maps]


def _steps(shapes: Sequence[tuple[int, int, int, int]], size: Size) -> list[tuple[Size, list[int]]]:
    """Return each size from the coarsest map to the view, with the channels of the maps that have it."""
    steps: list[tuple[Size, list[int]]] = []
    for (d, h, w), same in groupby(reversed(shapes), key=lambda shape: shape[1:]):
        if steps:
            steps += [(between, []) for between in _doubled(steps[-1][0], (d, h, w))[:-1]]
        steps.append(((d, h, w), [shape[0] for shape in same]))
    return steps + [(between, []) for between in _doubled(steps[-1][0], size)]


def _doubled(start: Size, end: Size) -> list[Size]:
    """Return the sizes from ``start``, without it, to ``end``, each at most twice the one before."""
    sizes = []
    while start != end:
        d, h, w = (min(2 * now, last) for now, last in zip(start, end, strict=True))
        start = (d, h, w)
        sizes.append(start)
    return sizes


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    """Return a convolution with group norm and ReLU, which keeps the size."""
    conv = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(groups(outputs), outputs), nn.ReLU(inplace=True))

"""MViT: multiscale vision transformer, as in pytorchvideo.

Fan et al. 2021, Multiscale Vision Transformers, https://arxiv.org/abs/2104.11227. Attention over all tokens of the
volume, whose number decreases and whose width grows from stage to stage. It uses layer norm, so ``norm`` has no effect
and accumulation is exact. Position encodings, for 8 x 56 x 56 tokens (16 x 224 x 224 voxels), are interpolated
linearly along each axis to the actual token grid.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl3d.backbone import Backbone, BackboneConfig, Weights
from ssl3d.card import Card

with warnings.catch_warnings():  # fvcore scripts functions when it is imported, which torch deprecates
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")
    from pytorchvideo.models import hub

GRID = (8, 56, 56)  # token grid of the position encodings
STAGE_ENDS = (0, 2, 13, 15)  # the last block of each stage


class MViTBase16x4(Backbone):
    """MViT-B 16x4. Its modules have pytorchvideo's names."""

    card: ClassVar[Card] = Card(
        name="MViT-B 16x4",
        summary="multiscale vision transformer, base, for 16 slices",
        paper="Fan et al., Multiscale Vision Transformers",
        year=2021,
        link="https://arxiv.org/abs/2104.11227",
        departures=(
            "One input channel: the stem's kernels are summed over RGB, the same function of a grey volume.",
            "Position encodings are interpolated to the size of the input.",
        ),
    )
    weights: ClassVar[Mapping[str, Weights]] = {
        "kinetics400": Weights(
            url="https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/MVIT_B_16x4.pyth",
            file="MVIT_B_16x4.pyth",
            size=(16, 224, 224),
            licence="none stated for the weights (the code is Apache-2.0)",
            normalisation="colours in [0, 1] by mean 0.45 and deviation 0.225",
            corpora=("kinetics400",),
        )
    }
    min_size = (2, 32, 32)
    readout_names = (*Backbone.readout_names, "mean")
    embed_dim = 768

    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        network = hub.mvit_base_16x4(input_channels=1, head=None)
        self.patch_embed = network.patch_embed
        self.cls_positional_encoding = network.cls_positional_encoding
        self.blocks = network.blocks
        self.norm_embed = network.norm_embed

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, 768): the class token, which is the input of the network's classifier."""
        return self._tokens(x)[1]

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the four stages' maps: (B, 192, D/2, H/4, W/4) to (B, 768, D/2, H/32, W/32), rounded up."""
        return self._tokens(x)[0]

    def _tokens(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the stages' maps and the class token (B, 768)."""
        patches = self.patch_embed.patch_model(x)  # (B, 96, d, h, w)
        grid = list(patches.shape[2:])
        first = self.cls_positional_encoding.cls_token.expand(len(x), -1, -1)
        tokens = torch.cat([first, patches.flatten(2).transpose(1, 2)], dim=1) + self._positions(grid)  # (B, 1+dhw, 96)
        maps = []
        for number, block in enumerate(self.blocks):
            tokens, grid = block(tokens, grid)
            if number == STAGE_ENDS[-1]:
                tokens = self.norm_embed(tokens)
            if number in STAGE_ENDS:
                maps.append(tokens[:, 1:].transpose(1, 2).unflatten(2, grid))  # (B, F, d, h, w)
        return maps, tokens[:, 0]

    def _positions(self, grid: list[int]) -> Tensor:
        """Return encodings (1, 1 + d h w, 96): the class token's, then slice plus in-plane position."""
        encoding: Any = self.cls_positional_encoding
        plane = encoding.pos_embed_spatial[0].unflatten(0, GRID[1:])  # (56, 56, 96)
        depth, high, wide = (_resample(plane, old, new) for old, new in zip(GRID, grid, strict=True))
        slices = depth @ encoding.pos_embed_temporal[0]  # (d, 96)
        plane = torch.einsum("ij,kl,jlc->ikc", high, wide, plane)  # (h, w, 96)
        places = slices[:, None, None] + plane  # (d, h, w, 96)
        return torch.cat([encoding.pos_embed_class[0], places.flatten(0, 2)])[None]


def _resample(like: Tensor, old: int, new: int) -> Tensor:
    """Return the matrix (new, old) of linear interpolation; the identity if the sizes are equal."""
    unit = torch.eye(old, dtype=like.dtype, device=like.device)
    return F.interpolate(unit[None], size=new, mode="linear")[0].T

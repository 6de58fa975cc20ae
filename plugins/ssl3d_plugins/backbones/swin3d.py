"""Swin3D: a video transformer with attention in shifted windows, as in torchvision.

Liu et al. 2022, Video Swin Transformer, https://arxiv.org/abs/2106.13230. Tokens of 2 x 4 x 4 voxels attend within
windows of 8 x 7 x 7 tokens, which every other block shifts by half; between stages, 2 x 2 tokens of a slice are merged.
Windows at the border are padded with zeros. It uses layer norm, so ``norm`` has no effect and accumulation is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torchvision.models.swin_transformer import SwinTransformerBlock  # type: ignore[import-untyped]
from torchvision.models.video.swin_transformer import (  # type: ignore[import-untyped]
    ShiftedWindowAttention3d,
    SwinTransformer3d,
)

from ssl3d.backbone import Backbone, BackboneConfig, Weights
from ssl3d.card import Card
from ssl3d.parts.stem import one_channel

FILE = "swin3d_t-7615ae03.pth"
LICENCE = "none stated for the weights (the code is BSD-3-Clause)"
WINDOW = (8, 7, 7)  # tokens along D, H, W


class Swin3DT(Backbone):
    """Swin3D-T. Its modules have torchvision's names."""

    card: ClassVar[Card] = Card(
        name="Swin3D-T",
        summary="video transformer with attention in shifted windows, tiny, 27.8 million parameters",
        paper="Liu et al., Video Swin Transformer",
        year=2022,
        link="https://arxiv.org/abs/2106.13230",
        departures=(
            "One input channel: the stem's kernels are summed over RGB, the same function of a grey volume.",
            "No stochastic depth: the paper drops up to a tenth of the residual branches.",
            "In windows smaller than 8 x 7 x 7, relative positions are those of the tokens; torchvision takes the "
            "first entries of its table.",
        ),
    )
    weights: ClassVar[Mapping[str, Weights]] = {
        "kinetics400": Weights(
            url=f"https://download.pytorch.org/models/{FILE}",
            file=FILE,
            size=(32, 224, 224),
            licence=LICENCE,
            normalisation="colours in [0, 1] by mean (0.485, 0.456, 0.406) and deviation (0.229, 0.224, 0.225)",
            corpora=("kinetics400",),
        )
    }
    min_size = (2, 32, 32)
    embed_dim = 768

    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        network = SwinTransformer3d(
            [2, 4, 4], 96, [2, 2, 6, 2], [3, 6, 12, 24], list(WINDOW), stochastic_depth_prob=0.0, block=_block
        )
        self.patch_embed, self.features, self.norm = network.patch_embed, network.features, network.norm
        self.patch_embed.proj = one_channel(self.patch_embed.proj)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the four stages' maps: (B, 96, D/2, H/4, W/4) to (B, 768, D/2, H/32, W/32), rounded up."""
        tokens = self.patch_embed(x)  # (B, d, h, w, 96)
        maps = []
        for number, module in enumerate(self.features):  # stages at even places, patch merging between them
            tokens = module(tokens)
            if number == len(self.features) - 1:
                tokens = self.norm(tokens)
            if number % 2 == 0:
                maps.append(tokens.permute(0, 4, 1, 2, 3))
        return maps


class _Attention(ShiftedWindowAttention3d):  # type: ignore[misc]  # torchvision is published without types
    """Attention in windows, with the right relative positions in smaller ones too."""

    def get_relative_position_bias(self, window_size: list[int]) -> Tensor:
        """Return the bias (1, heads, N, N) between the N tokens of a window."""
        d, h, w = window_size
        index = self.relative_position_index.view(*WINDOW, *WINDOW)[:d, :h, :w, :d, :h, :w]
        bias = self.relative_position_bias_table[index.reshape(d * h * w, -1)]  # (N, N, heads)
        return bias.permute(2, 0, 1)[None]  # type: ignore[no-any-return]  # torchvision is published without types


def _block(*arguments: Any, attn_layer: Any, **options: Any) -> Any:
    """Return a block of torchvision's with the attention above, in place of ``attn_layer``."""
    del attn_layer
    return SwinTransformerBlock(*arguments, attn_layer=_Attention, **options)

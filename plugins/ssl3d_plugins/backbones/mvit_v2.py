"""MViTv2: multiscale vision transformer with relative positions, as in torchvision.

Li et al. 2022, MViTv2: Improved Multiscale Vision Transformers, https://arxiv.org/abs/2112.01526. As in MViT, the
number of tokens decreases and their width grows from stage to stage; keys and values are pooled in every block.
Relative positions, for 8 x 56 x 56 tokens (16 x 224 x 224 voxels), are interpolated to the actual token grid. It uses
layer norm, so ``norm`` has no effect and accumulation is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from torchvision.models import get_model  # type: ignore[import-untyped]

from ssl3d.backbone import Backbone, BackboneConfig, Weights
from ssl3d.card import Card
from ssl3d.parts.stem import one_channel

FILE = "mvit_v2_s-ae3be167.pth"
LICENCE = "none stated for the weights (the code is BSD-3-Clause)"
STAGE_ENDS = (0, 2, 13, 15)  # the last block of each stage


class MViTV2S(Backbone):
    """MViTv2-S. Its modules have torchvision's names."""

    card: ClassVar[Card] = Card(
        name="MViTv2-S",
        summary="multiscale vision transformer with relative positions, small, 34.2 million parameters",
        paper="Li et al., MViTv2: Improved Multiscale Vision Transformers for Classification and Detection",
        year=2022,
        link="https://arxiv.org/abs/2112.01526",
        departures=(
            "One input channel: the stem's kernels are summed over RGB, the same function of a grey volume.",
            "No stochastic depth: the paper drops up to a fifth of the residual branches.",
            "In the last block, the pooling of queries and the relative positions, which only the last map depends on, "
            "are not trained.",
        ),
    )
    weights: ClassVar[Mapping[str, Weights]] = {
        "kinetics400": Weights(
            url=f"https://download.pytorch.org/models/{FILE}",
            file=FILE,
            size=(16, 224, 224),
            licence=LICENCE,
            normalisation="colours in [0, 1] by mean 0.45 and deviation 0.225",
            corpora=("kinetics400",),
        )
    }
    min_size = (2, 32, 32)
    readout_names = (*Backbone.readout_names, "mean")
    embed_dim = 768

    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        network = get_model("mvit_v2_s", stochastic_depth_prob=0.0)
        self.conv_proj = one_channel(network.conv_proj)
        self.pos_encoding, self.blocks, self.norm = network.pos_encoding, network.blocks, network.norm
        last = self.blocks[-1].attn  # the class token, whose features are returned, is neither pooled nor placed
        for parameter in (last.pool_q.pool.weight, last.rel_pos_t, last.rel_pos_h, last.rel_pos_w):
            parameter.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, 768): the class token, which is the input of the network's classifier."""
        return self._tokens(x)[1]

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the four stages' maps: (B, 96, D/2, H/4, W/4) to (B, 768, D/2, H/32, W/32), rounded up."""
        return self._tokens(x)[0]

    def _tokens(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the stages' maps and the class token (B, 768)."""
        patches = self.conv_proj(x)  # (B, 96, d, h, w)
        grid = tuple(patches.shape[2:])
        tokens = self.pos_encoding(patches.flatten(2).transpose(1, 2))  # (B, 1 + dhw, 96): adds the class token
        maps = []
        for number, block in enumerate(self.blocks):
            tokens, grid = block(tokens, grid)
            if number == STAGE_ENDS[-1]:
                tokens = self.norm(tokens)
            if number in STAGE_ENDS:
                maps.append(tokens[:, 1:].transpose(1, 2).unflatten(2, grid))  # (B, F, d, h, w)
        return maps, tokens[:, 0]

"""Primus: a vision transformer for volumes, as pretrained on OpenMind.

Wald et al. 2025, Primus: Enforcing Attention Usage for 3D Medical Image Segmentation, https://arxiv.org/abs/2503.01835;
weights of Wald et al. 2024, https://arxiv.org/abs/2412.17041. Patches of 8 x 8 x 8 voxels, learned positions at the
input and rotary ones in attention, gated MLPs, and a learned scale of each residual branch: the blocks of EVA-02 (Fang
et al. 2023, arXiv 2303.11331). It uses layer norm, so ``norm`` has no effect and accumulation is exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from timm.models.eva import EvaBlock
from torch import Tensor, nn

from ssl3d.backbone import Backbone, BackboneConfig, Tokens, Weights
from ssl3d.card import Card
from ssl3d.matching import load_matching
from ssl3d.parts.tokens import pick, rotary_positions, to_patches, token_grid

PATCH = (8, 8, 8)
NAMES = ("down_projection.", "eva.")  # what the published tensors of the encoder begin with
Side = Annotated[int, Field(ge=1)]


class PrimusConfig(BackboneConfig):
    """Settings of Primus."""

    grid: tuple[Side, Side, Side] = Field(
        (20, 20, 20),
        description="patches (D, H, W) that have a learned position; for another number of patches they are "
        "interpolated. Published weights have 20 x 20 x 20",
    )


class _Primus(Backbone):
    """Patch embedding, blocks, a norm."""

    Config = PrimusConfig
    config: PrimusConfig
    tokens = True
    min_size = PATCH
    patch_size = PATCH
    depth: ClassVar[int]
    width: ClassVar[int]
    heads: ClassVar[int]

    def __init__(self, config: PrimusConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        self.embed_dim = self.width
        self.patch_embed = nn.Linear(math.prod(PATCH), self.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.width, *self.config.grid))
        self.blocks = nn.ModuleList(self._block() for _ in range(self.depth))
        self.norm = nn.LayerNorm(self.width)
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, F): the mean of the tokens."""
        return self.forward_tokens(x).pooled

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the maps (B, F, d, h, w) after each quarter of the blocks, one voxel per patch."""
        grid, quarter = token_grid(x.shape[2:], PATCH), self.depth // 4
        chosen = self._encode(x)[quarter - 1 :: quarter]
        return [tokens.transpose(1, 2).reshape(len(x), self.width, *grid) for tokens in chosen]

    def forward_tokens(
        self, x: Tensor, keep: Tensor | None = None, mask: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tokens:
        """Return features and tokens (B, T, F); see :meth:`ssl3d.backbone.Backbone.forward_tokens`."""
        patches = self._encode(x, keep, mask, mask_token)[-1]
        return Tokens(patches.mean(dim=1), patches)

    def load_pretrained(self, state: Mapping[str, Tensor]) -> tuple[int, int]:
        """Load published weights, which number the patches along H, then D, then W, without their decoder."""
        found = {}
        for key, value in state.items():
            name, tensor = key.removeprefix("module."), value
            if name == "down_projection.proj.weight":
                tensor = value.flatten(1)  # (F, voxels of a patch)
            elif name == "eva.pos_embed":
                tensor = self._swap_positions(value)
            elif ".q_proj." in name or ".k_proj." in name:
                tensor = self._swap_rotations(value)
            if name.startswith(NAMES):
                found[name.replace("down_projection.proj.", "patch_embed.").removeprefix("eva.")] = tensor
        return load_matching(self, found)

    def _encode(
        self, x: Tensor, keep: Tensor | None = None, mask: Tensor | None = None, mask_token: Tensor | None = None
    ) -> list[Tensor]:
        """Return the tokens (B, T, F) after each block; the last ones are normalised."""
        grid = token_grid(x.shape[2:], PATCH)
        tokens = self.patch_embed(to_patches(x, PATCH))  # (B, T, F)
        if mask is not None and mask_token is not None:
            tokens = torch.where(mask[..., None], mask_token.to(tokens.dtype), tokens)
        tokens = tokens + self._positions(grid)
        turns = rotary_positions(grid, self.width // self.heads, x)  # (T, 2 * F / heads)
        if keep is not None:
            tokens, turns = pick(tokens, keep), turns[keep][:, None]  # (B, K, F), (B, 1, K, 2 * F / heads)
        found = []
        for block in self.blocks:
            tokens = block(tokens, rope=turns)
            found.append(tokens)
        return [*found[:-1], self.norm(tokens)]

    def _positions(self, grid: tuple[int, int, int]) -> Tensor:
        """Return the learned positions (1, T, F), interpolated to a grid."""
        places: Tensor = self.pos_embed  # (1, F, d, h, w)
        if grid != self.config.grid:
            places = F.interpolate(places, size=grid, mode="trilinear")
        return places.flatten(2).transpose(1, 2)

    def _block(self) -> EvaBlock:
        return EvaBlock(
            self.width, self.heads, qkv_fused=False, mlp_ratio=8 / 3, swiglu_mlp=True, scale_mlp=True,
            scale_attn_inner=True, num_prefix_tokens=0, init_values=0.1,
        )  # fmt: skip

    def _swap_positions(self, value: Tensor) -> Tensor:
        """Return learned positions (1, T, F), numbered along H, D, W, as (1, F, d, h, w)."""
        d, h, w = self.config.grid
        if value.shape != (1, d * h * w, self.width):
            return value  # of another grid or width: does not match
        return value.transpose(1, 2).reshape(1, self.width, h, d, w).transpose(2, 3)

    def _swap_rotations(self, value: Tensor) -> Tensor:
        """Return a projection (F, ...) to queries or keys with the features that H and D rotate exchanged."""
        if len(value) != self.width:
            return value  # of another width: does not match
        heads = value.reshape(self.heads, 3, -1, *value.shape[1:])
        return heads[:, [1, 0, 2]].reshape(value.shape)

    def _initialise(self) -> None:
        """Initialise as published: truncated normal weights, the last layer of each branch scaled by its depth."""
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
        with torch.no_grad():
            for number, block in enumerate(self.blocks, 1):
                for last in ("attn.proj.weight", "mlp.fc2.weight"):
                    block.get_parameter(last).div_(math.sqrt(2 * number))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.kaiming_normal_(self.patch_embed.weight, a=0.01)
        nn.init.zeros_(self.patch_embed.bias)


def _card(size: str, summary: str) -> Card:
    return Card(
        name=f"Primus-{size}",
        summary=summary,
        paper="Wald et al., Primus: Enforcing Attention Usage for 3D Medical Image Segmentation",
        year=2025,
        link="https://arxiv.org/abs/2503.01835",
        departures=(
            "No stochastic depth: the paper drops up to a fifth of the residual branches.",
            "Learned positions are interpolated to the size of the input, and odd sides are padded with zeros.",
        ),
    )


class PrimusS(_Primus):
    """12 blocks, 396 wide, 6 heads."""

    card: ClassVar[Card] = _card("S", "small vision transformer with rotary positions, 26.1 million parameters")
    depth, width, heads = 12, 396, 6


class PrimusB(_Primus):
    """12 blocks, 792 wide, 12 heads."""

    card: ClassVar[Card] = _card("B", "base vision transformer with rotary positions, 97.3 million parameters")
    depth, width, heads = 12, 792, 12


class PrimusM(_Primus):
    """16 blocks, 864 wide, 12 heads."""

    card: ClassVar[Card] = _card("M", "medium vision transformer with rotary positions, 151.0 million parameters")
    weights: ClassVar[Mapping[str, Weights]] = {
        "openmind_mae": Weights(
            url="https://huggingface.co/MIC-DKFZ/PrimusM-OpenMind-MAE/resolve/main/checkpoint_final.pth",
            file="PrimusM-OpenMind-MAE.pth",
            size=(160, 160, 160),
            licence="CC BY 4.0",
            sha256="b866ac5f61d7e90d3a6cbb00a759ffc9d73beb5e63baa6b3cd654671ebc9a552",
            normalisation="z-score",
            spacing=(1.0, 1.0, 1.0),
            corpora=("openmind",),
        )
    }
    depth, width, heads = 16, 864, 12

"""ViT3D: a vision transformer on 3D patches.

Dosovitskiy et al. 2020, An Image is Worth 16x16 Words, https://arxiv.org/abs/2010.11929; the widths of Tiny and Small
are DeiT's (Touvron et al. 2020, arXiv 2012.12877). A volume is cut into patches, each patch becomes a token, and
twelve blocks of attention over all tokens follow. Patches are flat (4 x 8 x 8), because slices are few and thick.
Positions are fixed sine-cosine embeddings, or rotations of queries and keys, computed for any grid; a side that is not
a multiple of the patch is padded with zeros. It uses layer norm, so ``norm`` has no effect and accumulation is exact.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ssl3d.backbone import Backbone, BackboneConfig, Tokens
from ssl3d.card import Card
from ssl3d.parts.tokens import pick, rotary_positions, sincos_positions, to_patches, token_grid

Side = Annotated[int, Field(ge=1)]


class ViT3DConfig(BackboneConfig):
    """Settings of ViT3D."""

    patch: tuple[Side, Side, Side] = Field((4, 8, 8), description="(D, H, W) of the patch behind a token, in voxels")
    class_token: bool = Field(
        False, description="add a class token, which the features are read from; otherwise they are the tokens' mean"
    )
    positions: Literal["sincos", "rotary"] = Field(
        "sincos",
        description="sincos: embeddings added to the patches; rotary: rotations of queries and keys (RoPE)",
    )


class _ViT3D(Backbone):
    """Patch embedding, twelve blocks, a norm."""

    Config = ViT3DConfig
    config: ViT3DConfig
    tokens = True
    min_size = (4, 8, 8)
    readout_names = (*Backbone.readout_names, "mean")
    depth: ClassVar[int] = 12
    width: ClassVar[int]
    heads: ClassVar[int]

    def __init__(self, config: ViT3DConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        self.patch_size = self.config.patch
        self.embed_dim = self.width
        self.patch_embed = nn.Linear(math.prod(self.patch_size), self.width)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, self.width)) if self.config.class_token else None
        self.blocks = nn.ModuleList(self._block() for _ in range(self.depth))
        self.norm = nn.LayerNorm(self.width)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, F): the class token, or the mean of the tokens."""
        return self.forward_tokens(x).pooled

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the maps (B, F, d, h, w) after each quarter of the blocks, one voxel per patch."""
        grid = token_grid(x.shape[2:], self.patch_size)
        quarter = self.depth // 4
        chosen = self._encode(x)[quarter - 1 :: quarter]
        maps = [self._patches(tokens).transpose(1, 2) for tokens in chosen]  # (B, F, T)
        return [one.reshape(*one.shape[:2], *grid) for one in maps]

    def forward_tokens(
        self, x: Tensor, keep: Tensor | None = None, mask: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tokens:
        """Return features and tokens (B, T, F); see :meth:`ssl3d.backbone.Backbone.forward_tokens`."""
        tokens = self._encode(x, keep, mask, mask_token)[-1]  # (B, P + T, F)
        pooled = tokens.mean(dim=1) if self.cls_token is None else tokens[:, 0]
        return Tokens(pooled, self._patches(tokens))

    def _encode(
        self, x: Tensor, keep: Tensor | None = None, mask: Tensor | None = None, mask_token: Tensor | None = None
    ) -> list[Tensor]:
        """Return the tokens (B, P + T, F) after each block, P = 1 with a class token; the last ones are normalised."""
        tokens = self.patch_embed(to_patches(x, self.patch_size))  # (B, T, F)
        if mask is not None and mask_token is not None:
            tokens = torch.where(mask[..., None], mask_token.to(tokens.dtype), tokens)
        grid, options = token_grid(x.shape[2:], self.patch_size), {}
        if self.config.positions == "rotary":
            turns = rotary_positions(grid, self.width // self.heads, x)  # (T, 2 * F / heads)
            options["rope"] = turns if keep is None else turns[keep][:, None]  # (B, 1, K, 2 * F / heads)
        else:
            tokens = tokens + sincos_positions(grid, self.width, x)
        if keep is not None:
            tokens = pick(tokens, keep)  # (B, K, F)
        if self.cls_token is not None:
            tokens = torch.cat([self.cls_token.expand(len(x), -1, -1).to(tokens.dtype), tokens], dim=1)
        found = []
        for block in self.blocks:
            tokens = block(tokens, **options)
            found.append(tokens)
        return [*found[:-1], self.norm(tokens)]

    def _block(self) -> Block | EvaBlock:
        if self.config.positions == "rotary":
            return EvaBlock(self.width, self.heads, num_prefix_tokens=int(self.config.class_token))
        return Block(self.width, self.heads, qkv_bias=True)

    def _patches(self, tokens: Tensor) -> Tensor:
        """Return the tokens of patches, without the class token."""
        return tokens if self.cls_token is None else tokens[:, 1:]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:  # keys have none where positions are rotary
            nn.init.zeros_(module.bias)


def _card(size: str, summary: str) -> Card:
    return Card(
        name=f"ViT3D-{size}",
        summary=summary,
        paper="Dosovitskiy et al., An Image is Worth 16x16 Words",
        year=2020,
        link="https://arxiv.org/abs/2010.11929",
        departures=(
            "Patches are 4 x 8 x 8 voxels of a volume, 16 x 16 pixels of an image in the paper.",
            "Positions are fixed sine-cosine embeddings of three axes; the paper learns them.",
            "Features are the mean of the tokens unless a class token is asked for.",
        ),
    )


class ViT3DTiny(_ViT3D):
    """192 wide, 3 heads."""

    card: ClassVar[Card] = _card("Tiny", "tiny vision transformer on 3D patches, 5.4 million parameters")
    width, heads = 192, 3


class ViT3DSmall(_ViT3D):
    """384 wide, 6 heads."""

    card: ClassVar[Card] = _card("Small", "small vision transformer on 3D patches, 21.4 million parameters")
    width, heads = 384, 6


class ViT3DBase(_ViT3D):
    """768 wide, 12 heads."""

    card: ClassVar[Card] = _card("Base", "base vision transformer on 3D patches, 85.3 million parameters")
    width, heads = 768, 12

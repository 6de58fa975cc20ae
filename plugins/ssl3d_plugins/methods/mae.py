"""MAE: masked autoencoders (He et al. 2021), https://arxiv.org/abs/2111.06377.

Three quarters of a volume's patches are dropped. The encoder sees only the rest, which makes it cheap. A small decoder
receives their tokens, with a mask token in each gap, and predicts the voxels of the dropped patches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.errors import RecipeError
from ssl3d.method import Batch, Card, Config, Field, Loss, Method, Rng, Rows, Views, Volumes
from ssl3d.parts.tokens import pick, sincos_positions, to_patches, token_grid, whole_patches


class MAEConfig(Config):
    """Settings of MAE."""

    mask_ratio: float = Field(0.75, gt=0, lt=1, description="share of the patches that is dropped")
    normalise: bool = Field(True, description="standardise the voxels of each patch before they are predicted")
    decoder_dim: int = Field(512, ge=6, description="width of the decoder")
    decoder_depth: int = Field(8, ge=1, description="blocks of the decoder")
    decoder_heads: int = Field(
        16, ge=1, description="attention heads of the decoder, as many of them as divide its width"
    )


class MAE(Method[MAEConfig]):
    """MAE on volumes."""

    card: ClassVar[Card] = Card(
        name="MAE",
        summary="predicts the voxels of dropped patches from a quarter of the patches",
        paper="He et al., Masked Autoencoders Are Scalable Vision Learners",
        year=2021,
        link="https://arxiv.org/abs/2111.06377",
        departures=(
            "Views have the recipe's intensity changes besides crop and flip; the paper has none.",
            "Optimiser, learning rate and batch are the recipe's, not the paper's (AdamW, batches of 4,096).",
        ),
    )
    preset: ClassVar[Mapping[str, Any]] = {"pretrain": {"weight_decay": 0.05}}
    needs_tokens = True
    coupled = False

    def build(self) -> None:
        """Make the decoder; views consist of whole patches.

        Raises:
            RecipeError: a view is only one patch.
        """
        config, self.patch = self.config, self.backbone.patch_size
        size = whole_patches(self.augment.size, self.patch)
        if size == self.patch:
            raise RecipeError(f"view_size = {self.augment.size} is one patch of {size} voxels; MAE needs larger views")
        self.augment = self.augment.replace(size)
        self.embed = nn.Linear(self.backbone.embed_dim, config.decoder_dim)
        self.mask_token = nn.Parameter(0.02 * torch.randn(config.decoder_dim))
        heads = math.gcd(config.decoder_dim, config.decoder_heads)
        blocks = (Block(config.decoder_dim, heads, qkv_bias=True) for _ in range(config.decoder_depth))
        self.decoder = nn.Sequential(*blocks, nn.LayerNorm(config.decoder_dim))
        self.predict = nn.Linear(config.decoder_dim, math.prod(self.patch))

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        """Return one view, and a random order of its patches, of which the first ones are visible."""
        view = self.augment(volumes, rng)
        patches = math.prod(token_grid(view.shape[2:], self.patch))
        order = rng.numbers(count=patches).argsort(axis=1)  # (B, T)
        return Views(view, order=torch.from_numpy(order).to(view.device))

    def online(self, view: Tensor, rows: Rows) -> dict[str, Tensor]:
        """Return the visible patches' tokens (B, K, F), and the voxels (B, M, P) predicted for the others."""
        visible, masked = self.split(rows["order"])
        tokens = self.backbone.forward_tokens(view, keep=visible).patches  # (B, K, F)
        gaps = self.mask_token.expand(*masked.shape, -1)
        given = torch.cat([self.embed(tokens), gaps.to(tokens.dtype)], dim=1)  # (B, T, F), in the drawn order
        positions = sincos_positions(token_grid(view.shape[2:], self.patch), given.shape[2], view)
        decoded = self.decoder(given + positions[rows["order"]])
        return {"tokens": tokens, "voxels": self.predict(decoded[:, visible.shape[1] :])}

    def target(self, view: Tensor, rows: Rows) -> Tensor:
        """Return the voxels (B, M, P) of the masked patches."""
        voxels = pick(to_patches(view, self.patch), self.split(rows["order"])[1])
        if self.config.normalise:
            variance, mean = torch.var_mean(voxels, dim=-1, keepdim=True)
            voxels = (voxels - mean) / (variance + 1e-6).sqrt()
        return voxels

    def loss(self, batch: Batch) -> Loss:
        """Return the mean squared error over masked voxels."""
        predicted, voxels = batch.online_maps[0]["voxels"], batch.target[0]
        return Loss(F.mse_loss(predicted, voxels), weight=voxels.numel())

    def split(self, order: Tensor) -> tuple[Tensor, Tensor]:
        """Return the indices of visible (B, K) and masked patches (B, M)."""
        visible = max(1, int(order.shape[1] * (1 - self.config.mask_ratio)))
        return order[:, :visible], order[:, visible:]

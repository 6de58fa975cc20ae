"""SimMIM: a simple framework for masked image modelling (Xie et al. 2021), https://arxiv.org/abs/2111.09886.

A mask token replaces the embeddings of some blocks of patches. The encoder sees all tokens, and one linear layer
predicts the voxels of the masked ones, without a deep decoder and without dropping tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ssl3d.method import Batch, Card, Config, Field, Loss, Method, Rng, Rows, Views, Volumes
from ssl3d.parts.tokens import to_patches, token_grid, whole_patches

Side = Annotated[int, Field(ge=1)]


class SimMIMConfig(Config):
    """Settings of SimMIM."""

    mask_ratio: float = Field(0.6, gt=0, lt=1, description="share of the blocks that is masked")
    block: tuple[Side, Side, Side] = Field((1, 2, 2), description="(D, H, W) of a masked block, in patches")


class SimMIM(Method[SimMIMConfig]):
    """SimMIM on volumes."""

    card: ClassVar[Card] = Card(
        name="SimMIM",
        summary="predicts the voxels behind mask tokens with one linear layer",
        paper="Xie et al., SimMIM: A Simple Framework for Masked Image Modeling",
        year=2021,
        link="https://arxiv.org/abs/2111.09886",
        departures=(
            "Masked blocks are 1 x 2 x 2 patches; in the paper's ViT they are 2 x 2 patches of an image.",
            "It takes backbones with tokens only; the paper's code masks convolutional ones too.",
            "Views have the recipe's intensity changes besides crop and flip; the paper has none.",
            "Optimiser, learning rate and batch are the recipe's, not the paper's (AdamW, batches of 2,048).",
        ),
    )
    preset: ClassVar[Mapping[str, Any]] = {"pretrain": {"weight_decay": 0.05, "clip_gradient": 5.0}}
    needs_tokens = True
    coupled = False

    def build(self) -> None:
        """Make the mask token and the linear decoder; views consist of whole patches."""
        self.patch = self.backbone.patch_size
        self.augment = self.augment.replace(size=whole_patches(self.augment.size, self.patch))
        self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(self.backbone.embed_dim), std=0.02))
        self.decoder = nn.Linear(self.backbone.embed_dim, math.prod(self.patch))

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        """Return one view, and for each patch whether it is masked, (B, T)."""
        view = self.augment(volumes, rng)
        grid = token_grid(view.shape[2:], self.patch)
        blocks = token_grid(grid, self.config.block)
        count = math.ceil(self.config.mask_ratio * math.prod(blocks))
        rank = rng.numbers(count=math.prod(blocks)).argsort(axis=1).argsort(axis=1)  # (B, blocks)
        masked = (rank < count).reshape(-1, *blocks)
        mask = np.kron(masked, np.ones((1, *self.config.block), bool))  # (B, d, h, w), or larger at the far ends
        mask = mask[:, : grid[0], : grid[1], : grid[2]].reshape(len(view), -1)  # (B, T)
        return Views(view, mask=torch.from_numpy(mask).to(view.device))

    def online(self, view: Tensor, rows: Rows) -> dict[str, Tensor]:
        """Return all tokens (B, T, F) and the voxels (B, T, P) predicted from them."""
        tokens = self.backbone.forward_tokens(view, mask=rows["mask"], mask_token=self.mask_token).patches
        return {"tokens": tokens, "voxels": self.decoder(tokens)}

    def target(self, view: Tensor, rows: Rows) -> Tensor:  # noqa: ARG002
        """Return the voxels (B, T, P) of all patches."""
        return to_patches(view, self.patch)

    def loss(self, batch: Batch) -> Loss:
        """Return the mean absolute error over masked voxels."""
        error = (batch.online_maps[0]["voxels"] - batch.target[0]).abs().mean(dim=2)  # (N, T)
        mask = batch.rows["mask"].to(error.dtype)
        return Loss((error * mask).sum() / mask.sum(), weight=mask.sum())

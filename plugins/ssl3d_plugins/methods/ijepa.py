"""I-JEPA: a joint-embedding predictive architecture (Assran et al. 2023), https://arxiv.org/abs/2301.08243.

The encoder sees a context, most of a volume's patches. A narrow predictor receives the context's tokens and, one after
the other, the positions of four blocks of hidden patches. It predicts their tokens, as a momentum encoder that sees the
whole volume gives them. Nothing is predicted in voxels, and no augmentation is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.config import Ordered
from ssl3d.errors import RecipeError
from ssl3d.method import (
    AUTO_MOMENTUM,
    Backbone,
    Batch,
    Card,
    Config,
    Field,
    Kept,
    Loss,
    Method,
    Momentum,
    MomentumSetting,
    Rng,
    Rows,
    Views,
    Volumes,
)
from ssl3d.parts.masks import block, equal_blocks
from ssl3d.parts.momentum import AutoLinearMomentum, linear_momentum
from ssl3d.parts.tokens import Size, pick, sincos_positions, token_grid, whole_patches

Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=100)]
ShareRange = Annotated[tuple[Share, Share], Ordered]


class IJEPAConfig(Config):
    """Settings of I-JEPA."""

    targets: int = Field(4, ge=1, description="blocks to predict")
    target_scale: ShareRange = Field((0.15, 0.2), description="range of the share of the patches in a block")
    target_aspect: Annotated[tuple[Positive, Positive], Ordered] = Field(
        (0.75, 1.5), description="range of its height to width, in patches"
    )
    context_scale: ShareRange = Field(
        (0.85, 1.0), description="range of the share of the patches in the block that the context is taken from"
    )
    predictor_dim: int = Field(384, ge=6, description="width of the predictor")
    predictor_depth: int = Field(6, ge=1, description="blocks of the predictor")
    predictor_heads: int = Field(12, ge=1, description="attention heads of the predictor, reduced to divide its width")
    momentum: Annotated[MomentumSetting, AutoLinearMomentum(0.996)] = Field(
        "auto", description="weight of the old momentum encoder; rises to 1 (linearly); 0.996 in the paper"
    )


class IJEPA(Method[IJEPAConfig]):
    """I-JEPA on volumes."""

    card: ClassVar[Card] = Card(
        name="I-JEPA",
        summary="predicts a momentum encoder's tokens of hidden blocks from those of the rest of the volume",
        paper="Assran et al., Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture",
        year=2023,
        link="https://arxiv.org/abs/2301.08243",
        departures=(
            "A target block is a box of any depth; the range of the aspect ratio holds in the plane.",
            "All target blocks have the same number of patches, in the paper those of a batch; their shapes differ.",
            "The context has as many patches as always remain outside of the target blocks, drawn from its block; in "
            "the paper as many as remain in every image of a batch.",
            "The predictor is that of the paper's smallest encoder, six blocks.",
            "Views have the recipe's crops (40% of the plane to all of it, in the paper 30%), intensity changes and "
            "flips; the paper has no such changes and no flips.",
            "Optimiser, learning rate and batch are the recipe's, not the paper's (AdamW, batches of 2,048).",
            AUTO_MOMENTUM,
        ),
    )
    preset: ClassVar[Mapping[str, Any]] = {"pretrain": {"weight_decay": 0.04, "weight_decay_end": 0.4}}
    needs_tokens = True
    coupled = False

    def build(self) -> None:
        """Make predictor and momentum encoder, and choose the shapes of blocks; views consist of whole patches.

        Raises:
            RecipeError: a view has too few patches to leave a context beside the target blocks.
        """
        config, patch = self.config, self.backbone.patch_size
        self.augment = self.augment.replace(whole_patches(self.augment.size, patch))
        self.grid = token_grid(self.augment.size, patch)
        count = math.prod(self.grid)
        if count <= config.targets:
            raise RecipeError(
                f"view_size = {self.augment.size} is {count} patches of {patch} voxels, too few for {config.targets} "
                "blocks to predict and a context; I-JEPA needs larger views"
            )
        most = (count - 1) // config.targets
        self.shapes = equal_blocks(self.grid, config.target_scale, config.target_aspect, most)
        self.visible = count - config.targets * math.prod(self.shapes[0])
        self.predictor = Predictor(
            self.backbone.embed_dim, config.predictor_dim, config.predictor_depth, config.predictor_heads, self.grid
        )
        self.teacher = Momentum(self.backbone)

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        """Return one view, and the patches of the context (B, K) and of M target blocks (B, M, L)."""
        view, targets = self.augment(volumes, rng), self.config.targets
        shapes = (len(self.shapes) * rng.numbers(count=targets)).astype(int)  # (B, M)
        places = rng.numbers(count=3 * (targets + 1)).reshape(-1, targets + 1, 3)
        scales, order = rng.numbers(*self.config.context_scale), rng.numbers(count=math.prod(self.grid))
        context, hidden = [], []
        for chosen, place, scale, drawn in zip(shapes, places, scales, order, strict=True):
            blocks = [block(self.grid, self.shapes[one], at) for one, at in zip(chosen, place[1:], strict=True)]
            around = block(self.grid, self.context_shape(float(scale)), place[0])
            # Patches of the context's block come first, those of target blocks last: none of these is ever taken.
            rank = drawn + ~around.flatten() + 2 * np.any(blocks, axis=0).flatten()
            context.append(np.sort(rank.argsort()[: self.visible]))
            hidden.append([np.flatnonzero(one) for one in blocks])
        rows = {"context": np.array(context), "targets": np.array(hidden)}
        return Views(view, **{name: torch.from_numpy(row).to(view.device) for name, row in rows.items()})

    def context_shape(self, scale: float) -> Size:
        """Return the shape of a block with the grid's proportions that covers a share of it."""
        d, h, w = (max(1, round(side * scale ** (1 / 3))) for side in self.grid)
        return d, h, w

    def online(self, view: Tensor, rows: Rows) -> dict[str, Tensor]:
        """Return the tokens of the context (B, K, F), and those predicted for the target blocks (B, M, L, F)."""
        tokens = self.backbone.forward_tokens(view, keep=rows["context"]).patches
        return {"tokens": tokens, "predicted": self.predictor(tokens, rows["context"], rows["targets"])}

    def target(self, view: Tensor, rows: Rows) -> Tensor:
        """Return the momentum encoder's tokens of the target blocks (B, M, L, F), each with mean 0 and variance 1."""
        tokens = self.teacher.module.forward_tokens(view).patches  # (B, T, F)
        normalized = F.layer_norm(tokens, tokens.shape[2:])
        return pick(normalized, rows["targets"].flatten(1)).view(*rows["targets"].shape, -1)

    def loss(self, batch: Batch) -> Loss:
        """Return the mean smooth L1 distance between predicted tokens and those of the momentum encoder."""
        return Loss(F.smooth_l1_loss(batch.online_maps[0]["predicted"], batch.target[0]))

    def after_step(self, progress: float, kept: Kept) -> None:  # noqa: ARG002
        """Update the momentum encoder."""
        self.teacher.update(linear_momentum(self.resolved["momentum"], progress))

    def encoder(self) -> Backbone:
        """Return the momentum encoder, which the paper evaluates."""
        return self.teacher.module


class Predictor(nn.Module):
    """A narrow transformer on the context's tokens and the mask tokens of one block of targets.

    Args:
        width: width of the encoder, F.
        dim: width of the predictor, P.
        depth: blocks.
        heads: attention heads, reduced to a divisor of the width.
        grid: patches of a view along D, H, W.
    """

    def __init__(self, width: int, dim: int, depth: int, heads: int, grid: Size) -> None:
        super().__init__()
        self.grid = grid
        self.embed = nn.Linear(width, dim)
        self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(dim), std=0.02))
        blocks = (Block(dim, math.gcd(dim, heads), qkv_bias=True) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks, nn.LayerNorm(dim))
        self.predict = nn.Linear(dim, width)

    def forward(self, tokens: Tensor, context: Tensor, targets: Tensor) -> Tensor:
        """Return the predicted tokens (B, M, L, F); blocks do not see each other.

        Args:
            tokens: (B, K, F), of the context.
            context: (B, K), their patches.
            targets: (B, M, L), the patches to predict.
        """
        B, M, L = targets.shape
        positions = sincos_positions(self.grid, self.embed.out_features, self.mask_token)  # (T, P)
        given = (self.embed(tokens) + positions[context]).repeat_interleave(M, dim=0)  # (B M, K, P)
        asked = self.mask_token + positions[targets].flatten(0, 1)  # (B M, L, P)
        predicted: Tensor = self.predict(self.blocks(torch.cat([given, asked], dim=1))[:, -L:])
        return predicted.view(B, M, L, -1)

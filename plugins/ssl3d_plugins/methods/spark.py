"""SparK: sparse and hierarchical masked modelling of convolutional networks (Tian et al. 2023).

https://arxiv.org/abs/2301.03580. Patches of a volume are hidden, and the network convolves over the visible ones as if
the others were not there. In every feature map a mask token fills the gaps, and a light U-Net decoder predicts the
voxels of the hidden patches. A patch is what stands behind one place of the coarsest map.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from ssl3d.errors import RecipeError
from ssl3d.method import Batch, Card, Config, Field, Loss, Method, Rng, Rows, Views, Volumes
from ssl3d.parts.decoder import DecoderWidth, UNetDecoder, map_shapes
from ssl3d.parts.norm import groups
from ssl3d.parts.sparse import check_sparse, mask_at, sparse, sparse_group_norm
from ssl3d.parts.tokens import to_patches, token_grid


class SparKConfig(Config):
    """Settings of SparK."""

    mask_ratio: float = Field(0.6, gt=0, lt=1, description="share of the patches that is hidden")
    decoder_width: DecoderWidth = Field(
        "auto", description="channels of the decoder at the coarsest map; auto: the map's own, at most 512"
    )


class SparK(Method[SparKConfig]):
    """SparK on volumes."""

    card: ClassVar[Card] = Card(
        name="SparK",
        summary="predicts the voxels of hidden patches by convolving over the visible ones alone",
        paper="Tian et al., Designing BERT for Convolutional Networks: Sparse and Hierarchical Masked Modeling",
        year=2023,
        link="https://arxiv.org/abs/2301.03580",
        departures=(
            "The decoder is as wide as the coarsest map, at most 512, in the authors' code 768; it enlarges maps by "
            "repeating voxels and convolving, not by transposed convolutions, and its norms are group norms.",
            "Before mask tokens fill a map, it has group norm over its visible voxels, batch norm in the paper.",
            "Views have the recipe's crops and intensity changes; the paper has crops and flips.",
            "Optimiser, learning rate and batch are the recipe's, not the paper's (LAMB, batches of 4,096).",
        ),
    )
    preset: ClassVar[Mapping[str, Any]] = {
        "pretrain": {"weight_decay": 0.04, "weight_decay_end": 0.2, "clip_gradient": 5.0}
    }
    coupled = False

    def build(self) -> None:
        """Make norms, mask tokens and decoder; views consist of whole patches.

        Raises:
            RecipeError: a view is only one patch.
            PluginError: the backbone has modules that cannot be masked.
        """
        size = self.augment.size
        self.grid = map_shapes(self.backbone, size)[-1][1:]
        self.patch = token_grid(size, self.grid)  # voxels of a patch, rounded up: a view grows by a few voxels at most
        if math.prod(self.grid) == 1:
            raise RecipeError(f"view_size = {size} is one place of the coarsest map; SparK needs larger views")
        d, h, w = (cells * side for cells, side in zip(self.grid, self.patch, strict=True))
        self.augment = self.augment.replace((d, h, w))
        check_sparse(self.backbone, (d, h, w), self.grid)
        shapes = map_shapes(self.backbone, (d, h, w))
        self.norms = nn.ModuleList(nn.GroupNorm(groups(width), width) for width, *_ in shapes)
        tokens = (nn.init.trunc_normal_(torch.empty(width, 1, 1, 1), std=0.02) for width, *_ in shapes)
        self.mask_tokens = nn.ParameterList(tokens)
        self.decoder = UNetDecoder(shapes, (d, h, w), 1, self.config.decoder_width)

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        """Return one view, and for each patch whether it is visible, (B, d, h, w)."""
        view, patches = self.augment(volumes, rng), math.prod(self.grid)
        count = min(max(round((1 - self.config.mask_ratio) * patches), 1), patches - 1)
        rank = rng.numbers(count=patches).argsort(axis=1).argsort(axis=1)  # (B, T)
        return Views(view, visible=torch.from_numpy(rank < count).to(view.device).view(-1, *self.grid))

    def online(self, view: Tensor, rows: Rows) -> dict[str, Tensor]:
        """Return the coarsest map (B, F, d, h, w), zero where hidden, and predicted voxels (B, T, P) of all patches."""
        visible = rows["visible"]
        with sparse(self.backbone, visible):
            maps = self.backbone.forward_features(view * mask_at(visible, view.shape[2:]).to(view.dtype))
        voxels = self.decoder(self.densified(maps, visible))
        return {"map": maps[-1], "voxels": to_patches(voxels, self.patch)}

    def densified(self, maps: Sequence[Tensor], visible: Tensor) -> list[Tensor]:
        """Return the maps (B, F_i, D_i, H_i, W_i), normalised, with mask tokens in place of hidden voxels."""
        dense = []
        for one, layer, token in zip(maps, self.norms, self.mask_tokens, strict=True):
            mask = mask_at(visible, one.shape[2:])
            normed = sparse_group_norm(cast("nn.GroupNorm", layer), one, mask)
            dense.append(torch.where(mask > 0, normed, token.to(normed.dtype)))
        return dense

    def target(self, view: Tensor, rows: Rows) -> Tensor:  # noqa: ARG002
        """Return the voxels (B, T, P) of all patches, standardised by patch."""
        voxels = to_patches(view, self.patch)
        variance, mean = torch.var_mean(voxels, dim=-1, keepdim=True)
        return (voxels - mean) / (variance + 1e-6).sqrt()

    def loss(self, batch: Batch) -> Loss:
        """Return the mean squared error over hidden voxels."""
        error = (batch.online_maps[0]["voxels"] - batch.target[0]).square().mean(dim=2)  # (N, T)
        hidden = batch.rows["visible"].flatten(1).logical_not().to(error.dtype)
        return Loss((error * hidden).sum() / hidden.sum(), weight=hidden.sum())

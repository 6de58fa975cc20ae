"""The pretext tasks of Swin UNETR: self-supervised pre-training of Swin transformers (Tang et al. 2021).

https://arxiv.org/abs/2111.14791. Two copies of a crop are turned in the plane and have blocks cut out and filled with
noise. The network predicts the turn, contrasts the copies with those of other volumes, and restores the voxels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from lightly.loss import NTXentLoss
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.method import Batch, Card, Config, Field, Loss, Method, Rng, Rows, Views, Volumes
from ssl3d.parts.decoder import map_shapes
from ssl3d.parts.quarter_turns import TURNS, square_slices, square_views

BLOCKS = 512  # drawn for a view, and used until enough is cut out


class SwinUNETRPretextConfig(Config):
    """Settings of the pretext tasks."""

    projection_dim: int = Field(512, ge=1, description="width of the contrast head's output")
    temperature: float = Field(0.5, gt=1e-6, description="divides the similarities")
    max_cut: float = Field(0.3, ge=0, lt=1, description="largest share of the voxels cut out; overlaps count twice")
    min_block: float = Field(0.05, ge=0, le=1, description="shortest side of a block, as a share of the view's")
    max_block: float = Field(0.25, gt=0, le=1, description="longest side of a block, as a share of the view's")
    rotation_weight: float = Field(1.0, ge=0, description="weight of the rotation loss")
    contrast_weight: float = Field(1.0, ge=0, description="weight of the contrast loss")
    restoration_weight: float = Field(1.0, ge=0, description="weight of the restoration loss")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_block > self.max_block:
            raise ValueError(f"min_block = {self.min_block} must not be larger than max_block = {self.max_block}")
        return self


class SwinUNETRPretext(Method[SwinUNETRPretextConfig]):
    """Rotation, contrast and restoration, on any backbone: a view holds the voxels with and without blocks cut out."""

    card: ClassVar[Card] = Card(
        name="Swin UNETR pretext",
        summary="finds turns, contrasts volumes and restores blocks that were cut out",
        paper="Tang et al., Self-Supervised Pre-Training of Swin Transformers for 3D Medical Image Analysis",
        year=2021,
        link="https://arxiv.org/abs/2111.14791",
        departures=(
            "Any backbone takes the place of the Swin transformer.",
            "Rotation and contrast read the mean of the last map; in the authors' code, its first two positions.",
            "Voxels are restored from the last map by one linear layer and a pixel shuffle, not by a convolutional "
            "decoder.",
            "Blocks are filled with standard normal noise, for voxels are standardised; the authors' code scales the "
            "noise to [0, 1], and fills further blocks with another volume of the batch.",
            "Views have the recipe's changes, are square in the plane, and are never flipped along H.",
            "Optimiser, learning rate and batch are the recipe's, not the authors' (AdamW, batches of 4).",
        ),
    )
    preset: ClassVar[Mapping[str, Any]] = {"pretrain": {"weight_decay": 0.1}}

    def build(self) -> None:
        """Make square views and the three heads."""
        self.augment = square_views(self.augment, self.backbone)
        width, *places = map_shapes(self.backbone, self.augment.size)[-1]
        d, h, w = (-(-n // count) for n, count in zip(self.augment.size, places, strict=True))
        self.patch = (d, h, w)  # voxels of a view behind one position of the last map, rounded up
        self.rotation_head = nn.Linear(width, TURNS)
        self.contrast_head = nn.Linear(width, self.config.projection_dim)
        self.restoration_head = nn.Conv3d(width, math.prod(self.patch), 1)
        self.contrast = NTXentLoss(self.config.temperature)

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        """Return two turned copies of a crop, cut and whole as two channels (B, 2, D, S, S), and their turns (B,)."""
        crop = self.augment(square_slices(volumes, rng), rng)
        turns = [rng.numbers(0, TURNS).astype(np.int64) for _ in range(2)]  # each (B,)
        copies = []
        for turn in turns:
            whole = torch.stack([one.rot90(k, (3, 2)) for one, k in zip(crop, turn.tolist(), strict=True)])
            mask = torch.from_numpy(cut_out(rng, self.augment.size, self.config)).to(crop.device)
            noise = rng.normal(crop.shape[1:])
            copies.append(torch.cat([torch.where(mask[:, None], noise, whole), whole], dim=1))
        return Views(*copies, turn=tuple(torch.from_numpy(turn).to(crop.device) for turn in turns))

    def online(self, view: Tensor, rows: Rows) -> dict[str, Tensor]:  # noqa: ARG002
        """Return features (B, F), and each volume's mean absolute error of the restored voxels (B,)."""
        cut, whole = view.chunk(2, dim=1)
        last = self.backbone.forward_features(cut)[-1]  # (B, F, d, h, w)
        restored = shuffle(self.restoration_head(last), self.patch, self.augment.size)
        return {"features": last.mean((2, 3, 4)), "error": (restored - whole).abs().flatten(1).mean(dim=1)}

    def loss(self, batch: Batch) -> Loss:
        """Return the weighted sum of cross-entropy, NT-Xent and mean absolute error."""
        first, second = (maps["features"] for maps in batch.online_maps)  # (N, F)
        logits = self.rotation_head(torch.cat([first, second]))  # (2 N, 4)
        turns = torch.cat([rows["turn"] for rows in batch.view_rows])
        rotation = F.cross_entropy(logits, turns)
        contrast = self.contrast(self.contrast_head(first), self.contrast_head(second))
        restoration = torch.cat([maps["error"] for maps in batch.online_maps]).mean()
        parts = {"rotation": rotation, "contrast": contrast, "restoration": restoration}
        value = sum(
            (getattr(self.config, f"{name}_weight") * part for name, part in parts.items()), logits.new_zeros(())
        )
        accuracy = (logits.argmax(dim=1) == turns).to(logits.dtype).mean()
        return Loss(value, scalars={**parts, "accuracy": accuracy})


def cut_out(rng: Rng, size: tuple[int, int, int], config: SwinUNETRPretextConfig) -> NDArray[np.bool_]:
    """Return which voxels (B, D, H, W) lie in a block that is cut out.

    Blocks are added until their voxels, counted with overlaps, reach a share drawn from [0, ``max_cut``).
    """
    extent = np.array(size)
    least = np.maximum((config.min_block * extent).astype(int), 1)
    most = np.maximum((config.max_block * extent).astype(int), least)
    wanted = rng.numbers(0, config.max_cut) * extent.prod()  # (B,)
    place, side = rng.numbers(count=6 * BLOCKS).reshape(len(rng), 2, BLOCKS, 3).transpose(1, 0, 2, 3)
    low = (place * (extent - least + 1)).astype(int)  # (B, blocks, 3)
    high = np.minimum(low + least + (side * (most - least + 1)).astype(int), extent)
    total = (high - low).prod(axis=2).cumsum(axis=1)  # (B, blocks)
    count = 1 + (total < wanted[:, None]).sum(axis=1)
    mask = np.zeros((len(rng), *size), bool)
    for i in np.flatnonzero(wanted):
        for (d, h, w), (D, H, W) in zip(low[i, : count[i]].tolist(), high[i, : count[i]].tolist(), strict=True):
            mask[i, d:D, h:H, w:W] = True
    return mask


def shuffle(maps: Tensor, patch: tuple[int, int, int], size: tuple[int, int, int]) -> Tensor:
    """Return voxels (B, 1, D, H, W) from maps (B, voxels of a patch, d, h, w); what extends beyond ``size`` is cut."""
    B, _, d, h, w = maps.shape
    (p, q, r), (D, H, W) = patch, size
    voxels = maps.reshape(B, p, q, r, d, h, w).permute(0, 4, 1, 5, 2, 6, 3)  # (B, d, p, h, q, w, r)
    return voxels.reshape(B, 1, d * p, h * q, w * r)[..., :D, :H, :W]

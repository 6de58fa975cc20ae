"""VoCo: a simple-yet-effective volume contrastive learning framework (Wu et al. 2024).

https://arxiv.org/abs/2402.17300. A volume is tiled by base crops. The similarity of a randomly placed crop to each base
crop must be the fraction of its voxels that lie in it: the network learns where in the body a crop comes from.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.method import (
    AUTO_MOMENTUM,
    AutoMomentum,
    Batch,
    Card,
    Config,
    Features,
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

Count = Annotated[int, Field(ge=1)]
EPSILON = 1e-6  # of the authors' code: keeps the logarithm finite


class VoCoConfig(Config):
    """Settings of VoCo."""

    grid: tuple[Count, Count, Count] = Field((1, 4, 4), description="base crops along D, H, W")
    crops: int = Field(2, ge=1, description="random crops of each volume")
    hidden_dim: int = Field(2048, ge=1, description="width of the projector's two hidden layers")
    projection_dim: int = Field(2048, ge=1, description="width of its output")
    momentum: Annotated[MomentumSetting, AutoMomentum(0.9, cosine=False)] = Field(
        "auto", description="weight of the old momentum encoder; 0.9 in the authors' code"
    )

    @model_validator(mode="after")
    def _several(self) -> Self:
        if math.prod(self.grid) < 2:
            raise ValueError(
                f"grid = {self.grid} has one base crop, which overlaps every random crop; use at least two"
            )
        return self


class VoCo(Method[VoCoConfig]):
    """VoCo on volumes: base crops tile a view, random crops lie anywhere in it."""

    card: ClassVar[Card] = Card(
        name="VoCo",
        summary="predicts how much a random crop overlaps each base crop of its volume",
        paper="Wu et al., VoCo: A Simple-yet-Effective Volume Contrastive Learning Framework",
        year=2024,
        link="https://arxiv.org/abs/2402.17300",
        departures=(
            "Base crops tile a view of the recipe's size, enlarged if they would be smaller than the backbone accepts; "
            "in the authors' code they are 64 x 64 x 64 voxels each.",
            "The crops of a volume share the changes of its view; in the authors' code, each is flipped and rotated "
            "with a chance of 0.2.",
            "The projector reads the backbone's features; the authors' reads the pooled maps of five stages.",
            "The momentum encoder starts as a copy of the network; in the authors' code, it has other random weights.",
            "The gradient of the similarity of two base crops reaches both; in the authors' code, the first.",
            "Optimiser, learning rate and batch are the recipe's, not the authors' (AdamW, batches of 2).",
            AUTO_MOMENTUM,
        ),
    )

    def build(self) -> None:
        """Choose the size of a crop, and make the projector and the momentum copies."""
        sides = zip(self.augment.size, self.config.grid, self.backbone.min_size, strict=True)
        self.crop = np.array([max(n // count, least) for n, count, least in sides])  # (D, H, W)
        depth, height, width = (self.crop * self.config.grid).tolist()
        self.augment = self.augment.replace((depth, height, width))
        self.bases = np.indices(self.config.grid).reshape(3, -1).T * self.crop  # (K, 3), first voxels
        hidden = self.config.hidden_dim
        self.projector = nn.Sequential(
            *_layer(self.backbone.embed_dim, hidden),
            *_layer(hidden, hidden),
            nn.Linear(hidden, self.config.projection_dim),
        )
        self.momentum_backbone, self.momentum_projector = Momentum(self.backbone), Momentum(self.projector)

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        """Return one view, the first voxels of all its crops (B, K + R, 3), and the overlaps (B, R, K)."""
        view = self.augment(volumes, rng)
        free = self.crop * self.config.grid - self.crop + 1  # possible places along D, H, W
        drawn = rng.numbers(count=3 * self.config.crops).reshape(len(view), -1, 3)
        places = (drawn * free).astype(np.int64)  # (B, R, 3)
        bases = np.broadcast_to(self.bases, (len(view), *self.bases.shape))
        first = torch.from_numpy(np.concatenate([bases, places], axis=1))
        overlaps = torch.from_numpy(overlap(places, self.bases, self.crop).astype(np.float32))
        return Views(view, first=first.to(view.device), overlap=overlaps.to(view.device))

    def online(self, view: Tensor, rows: Rows) -> Tensor:
        """Return the features of all crops (B, K + R, F)."""
        crops = self.cut(view, rows["first"])
        return self.backbone(crops.flatten(0, 1)).reshape(*crops.shape[:2], -1)

    def target(self, view: Tensor, rows: Rows) -> Tensor:
        """Return the momentum encoder's features of all crops (B, K + R, F)."""
        crops = self.cut(view, rows["first"])
        return self.momentum_backbone(crops.flatten(0, 1)).reshape(*crops.shape[:2], -1)

    def loss(self, batch: Batch) -> Loss:
        """Return the overlap losses and the similarity of base crops, weighted 1:1:1."""
        count = len(self.bases)
        ours = _projected(self.projector, batch.online[0])  # (N, K + R, P), unit vectors
        with torch.no_grad():
            theirs = _projected(self.momentum_projector, batch.target[0])
        student = (ours[:, count:] @ theirs[:, :count].transpose(1, 2)).relu()  # (N, R, K)
        teacher = (theirs[:, count:] @ ours[:, :count].transpose(1, 2)).relu()
        positive, negative = overlap_losses((student + teacher) / 2, batch.rows["overlap"])
        i, j = torch.triu_indices(count, count, offset=1, device=ours.device)  # (pairs,)
        similar = (ours[:, i] * ours[:, j]).sum(2).relu().square().mean()
        scalars = {"positive": positive, "negative": negative, "bases": similar}
        return Loss(positive + negative + similar, scalars=scalars)

    def after_step(self, progress: float, kept: Kept) -> None:  # noqa: ARG002
        """Update the momentum encoder."""
        self.momentum_backbone.update(self.resolved["momentum"])
        self.momentum_projector.update(self.resolved["momentum"])

    def embedding(self, features: Features) -> Tensor:
        """Return the features (N, F) of the first random crop; a mean over crops would vary less than a crop."""
        assert isinstance(features, Tensor)
        return features[:, len(self.bases)]

    def cut(self, view: Tensor, first: Tensor) -> Tensor:
        """Return the crops (B, P, C, D, H, W) of views, given their first voxels (B, P, 3)."""
        (D, H, W), volume = self.crop.tolist(), torch.arange(len(view), device=view.device)[:, None]
        windows = view.unfold(2, D, 1).unfold(3, H, 1).unfold(4, W, 1)  # (B, C, places along D, H, W, D, H, W): no copy
        d, h, w = first.unbind(dim=2)
        return windows[volume, :, d, h, w]


def overlap(places: NDArray[np.int64], bases: NDArray[np.int64], crop: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the fractions (B, R, K) of the voxels of crops at (B, R, 3) that lie in base crops at (K, 3).

    All crops have the size ``crop``, (3,).
    """
    shared = np.maximum(crop - np.abs(places[:, :, None] - bases), 0)  # (B, R, K, 3), voxels along each axis
    fractions: NDArray[np.float64] = (shared / crop).prod(axis=3)
    return fractions


def overlap_losses(predicted: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses of overlaps (N, R, K) in [0, 1], where there is some and where there is none.

    Each is averaged within a volume, the first with the true overlap as weight, and then over volumes.
    """
    absent = (truth == 0).to(truth.dtype)
    positive = -(truth * (1 - (truth - predicted).abs() + EPSILON).log()).sum((1, 2)) / (truth.sum((1, 2)) + EPSILON)
    negative = (absent * predicted.square()).sum((1, 2)) / (absent.sum((1, 2)) + EPSILON)
    return positive.mean(), negative.mean()


def _layer(width_in: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Linear(width_in, width), nn.BatchNorm1d(width, affine=False, track_running_stats=False), nn.ReLU()


def _projected(projector: nn.Module, features: Tensor) -> Tensor:
    """Return unit vectors (N, P, F) of features; batch norm covers the crops of all volumes."""
    return F.normalize(projector(features.flatten(0, 1)).reshape(*features.shape[:2], -1), dim=2)

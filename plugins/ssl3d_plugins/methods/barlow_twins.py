"""Barlow Twins: self-supervised learning via redundancy reduction (Zbontar et al. 2021).

https://arxiv.org/abs/2103.03230. The loss draws the cross-correlation of two views' projections over the effective
batch to the identity: each component is equal in both views, and components are not redundant. It needs no negatives.
"""

from __future__ import annotations

from typing import ClassVar

from lightly.loss import BarlowTwinsLoss
from lightly.models.modules.heads import ProjectionHead
from torch import nn

from ssl3d.method import Batch, Card, Config, Field, Loss, Method


class BarlowTwinsConfig(Config):
    """Settings of Barlow Twins."""

    projection_dim: int = Field(8192, ge=2, description="width of the projector's three layers")
    redundancy: float = Field(0.005, ge=0, description="weight of the correlations between different components")


class BarlowTwins(Method[BarlowTwinsConfig]):
    """Barlow Twins on volumes: the correlation is that of the whole effective batch."""

    card: ClassVar[Card] = Card(
        name="Barlow Twins",
        summary="makes the cross-correlation of two views' projections the identity; no negatives",
        paper="Zbontar et al., Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
        year=2021,
        link="https://arxiv.org/abs/2103.03230",
        departures=(
            "Views are 3D crops of one volume, both augmented alike; in the paper, blur and solarisation differ.",
            "Optimiser, learning rate and batch are the recipe's, not the paper's (LARS, batches of 2,048).",
        ),
    )

    def build(self) -> None:
        """Make the projector."""
        width = self.config.projection_dim
        self.projector = ProjectionHead(
            [
                (self.backbone.embed_dim, width, nn.BatchNorm1d(width), nn.ReLU()),
                (width, width, nn.BatchNorm1d(width), nn.ReLU()),
                (width, width, None, None, False),  # the output is standardised: a bias would have no effect
            ]
        )
        self.criterion = BarlowTwinsLoss(self.config.redundancy)

    def loss(self, batch: Batch) -> Loss:
        """Return the distance of the cross-correlation from the identity (equation 1 of the paper)."""
        first, second = (self.projector(features) for features in batch.online)  # (N, P)
        return Loss(self.criterion(first, second))

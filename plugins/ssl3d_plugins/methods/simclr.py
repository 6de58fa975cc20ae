"""SimCLR: a simple framework for contrastive learning (Chen et al. 2020), https://arxiv.org/abs/2002.05709.

Two views of a volume attract each other; all other views in the effective batch repel them.
"""

from __future__ import annotations

from typing import ClassVar

from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead

from ssl3d.method import Batch, Card, Config, Field, Loss, Method


class SimCLRConfig(Config):
    """Settings of SimCLR."""

    hidden_dim: int = Field(2048, ge=1, description="width of the projector's hidden layer")
    projection_dim: int = Field(128, ge=1, description="width of its output")
    temperature: float = Field(0.1, gt=1e-6, description="divides the similarities; small: hard negatives count more")


class SimCLR(Method[SimCLRConfig]):
    """SimCLR on volumes: NT-Xent over the whole effective batch."""

    card: ClassVar[Card] = Card(
        name="SimCLR",
        summary="contrasts two views of a volume with every other view in the effective batch",
        paper="Chen et al., A Simple Framework for Contrastive Learning of Visual Representations",
        year=2020,
        link="https://arxiv.org/abs/2002.05709",
        departures=(
            "Views are 3D crops of one volume with intensity changes; there is no colour to jitter.",
            "Optimiser, learning rate and batch are the recipe's, not the paper's (LARS, batches of 4,096).",
        ),
    )

    def build(self) -> None:
        """Make the projector."""
        self.projector = SimCLRProjectionHead(
            self.backbone.embed_dim, self.config.hidden_dim, self.config.projection_dim
        )
        self.criterion = NTXentLoss(self.config.temperature)

    def loss(self, batch: Batch) -> Loss:
        """Return NT-Xent of the projections (equation 1 of the paper)."""
        first, second = (self.projector(features) for features in batch.online)  # (N, P)
        return Loss(self.criterion(first, second))

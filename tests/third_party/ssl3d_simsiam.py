"""SimSiam: Exploring Simple Siamese Representation Learning (Chen & He 2020), https://arxiv.org/abs/2011.10566.

A prediction of one view's projection from the other's, whose gradient is stopped. No negatives, no momentum encoder.
"""

from __future__ import annotations

from typing import ClassVar

from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead

from ssl3d.method import Batch, Card, Config, Field, Loss, Method


class SimSiamConfig(Config):
    """Settings of SimSiam."""

    projection_dim: int = Field(2048, ge=1, description="width of the projector")
    hidden_dim: int = Field(512, ge=1, description="width of the predictor's bottleneck")


class SimSiam(Method[SimSiamConfig]):
    """SimSiam on volumes."""

    card: ClassVar[Card] = Card(
        name="SimSiam",
        summary="predicts one view's projection from the other's, with a stopped gradient; no momentum encoder",
        paper="Chen & He, Exploring Simple Siamese Representation Learning",
        year=2020,
        link="https://arxiv.org/abs/2011.10566",
        departures=("Views are 3D crops of one volume with intensity changes; there is no colour to jitter.",),
    )

    def build(self) -> None:
        """Make projector and predictor."""
        width = self.config.projection_dim
        self.projector = SimSiamProjectionHead(self.backbone.embed_dim, width, width)
        self.predictor = SimSiamPredictionHead(width, self.config.hidden_dim, width)
        self.similarity = NegativeCosineSimilarity()

    def loss(self, batch: Batch) -> Loss:
        """Return the negative cosine of prediction and projection, mean of both directions (equation 2)."""
        first, second = (self.projector(features) for features in batch.online)  # (N, P)
        forth = self.similarity(self.predictor(first), second.detach())
        back = self.similarity(self.predictor(second), first.detach())
        return Loss(forth / 2 + back / 2)

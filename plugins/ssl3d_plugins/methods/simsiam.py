"""SimSiam: exploring simple Siamese representation learning (Chen & He 2020), https://arxiv.org/abs/2011.10566.

Each view predicts the projection of the other, which is held constant: no negatives and no momentum encoder. The
stop-gradient, with a predictor on one side only, prevents collapse.
"""

from __future__ import annotations

from typing import ClassVar

from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead

from ssl3d.method import Batch, Card, Config, Field, Loss, Method


class SimSiamConfig(Config):
    """Settings of SimSiam."""

    projection_dim: int = Field(2048, ge=1, description="width of the projector's three layers")
    hidden_dim: int = Field(512, ge=1, description="width of the predictor's hidden layer")


class SimSiam(Method[SimSiamConfig]):
    """SimSiam on volumes."""

    card: ClassVar[Card] = Card(
        name="SimSiam",
        summary="predicts the projection of the other view by the same network; no negatives, no momentum encoder",
        paper="Chen & He, Exploring Simple Siamese Representation Learning",
        year=2020,
        link="https://arxiv.org/abs/2011.10566",
        departures=(
            "Views are 3D crops of one volume with intensity changes; there is no colour to jitter.",
            "The predictor's learning rate falls with all others; in the paper it is constant.",
            "Optimiser, learning rate and batch are the recipe's, not the paper's (SGD, batches of 512).",
        ),
    )

    def build(self) -> None:
        """Make projector and predictor."""
        width, hidden = self.config.projection_dim, self.config.hidden_dim
        self.projector = SimSiamProjectionHead(self.backbone.embed_dim, width, width)
        self.predictor = SimSiamPredictionHead(width, hidden, width)
        self.similarity = NegativeCosineSimilarity()

    def loss(self, batch: Batch) -> Loss:
        """Return the mean negative cosine of prediction and projection in both directions (equation 4)."""
        first, second = (self.projector(features) for features in batch.online)  # (N, P)
        similarity = self.similarity(self.predictor(first), second.detach())
        return Loss((similarity + self.similarity(self.predictor(second), first.detach())) / 2)

"""VICReg: variance-invariance-covariance regularization (Bardes et al. 2021), https://arxiv.org/abs/2105.04906.

The projections of two views are drawn together (invariance); over the effective batch, each component keeps a standard
deviation of at least 1 (variance), which prevents collapse, and components are decorrelated (covariance).
"""

from __future__ import annotations

from typing import ClassVar

from lightly.loss import VICRegLoss
from lightly.models.modules.heads import ProjectionHead
from torch import nn

from ssl3d.method import Batch, Card, Config, Field, Loss, Method


class VICRegConfig(Config):
    """Settings of VICReg."""

    projection_dim: int = Field(8192, ge=2, description="width of the expander's three layers")
    invariance: float = Field(25.0, ge=0, description="weight of the distance between the views")
    variance: float = Field(25.0, ge=0, description="weight of what a component's deviation lacks to 1")
    covariance: float = Field(1.0, ge=0, description="weight of the covariances between components")


class VICReg(Method[VICRegConfig]):
    """VICReg on volumes: variance and covariance are those of the whole effective batch."""

    card: ClassVar[Card] = Card(
        name="VICReg",
        summary="keeps the components of two close projections spread out and uncorrelated; no negatives",
        paper="Bardes et al., VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning",
        year=2021,
        link="https://arxiv.org/abs/2105.04906",
        departures=(
            "Views are 3D crops of one volume with intensity changes; there is no colour to jitter.",
            "As in the authors' code, the distance is a mean over components, and the variance term over both views; "
            "the paper's equations add them up.",
            "Optimiser, learning rate and batch are the recipe's, not the paper's (LARS, batches of 2,048).",
        ),
    )

    def build(self) -> None:
        """Make the expander."""
        config, width = self.config, self.config.projection_dim
        self.projector = ProjectionHead(
            [
                (self.backbone.embed_dim, width, nn.BatchNorm1d(width), nn.ReLU()),
                (width, width, nn.BatchNorm1d(width), nn.ReLU()),
                (
                    width,
                    width,
                    None,
                    None,
                    False,
                ),  # the loss does not depend on the mean: a bias would have no effect
            ]
        )
        self.criterion = VICRegLoss(config.invariance, config.variance, config.covariance)

    def loss(self, batch: Batch) -> Loss:
        """Return the weighted sum of the three terms (equation 6 of the paper)."""
        first, second = (self.projector(features) for features in batch.online)  # (N, P)
        return Loss(self.criterion(first, second))

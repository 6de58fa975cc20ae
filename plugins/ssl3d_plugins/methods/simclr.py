"""SimCLR: a simple framework for contrastive learning (Chen et al. 2020), https://arxiv.org/abs/2002.05709.

Two views of a volume attract each other; all other views in the effective batch repel them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from pydantic import Field
from torch import Tensor

from ssl3d.backbone import Backbone
from ssl3d.card import Card
from ssl3d.config import Config
from ssl3d.data.augment import Augment
from ssl3d.method import Method


class SimCLRConfig(Config):
    """Settings of SimCLR."""

    hidden_dim: int = Field(2048, ge=1, description="width of the projector's hidden layer")
    projection_dim: int = Field(128, ge=1, description="width of its output")
    temperature: float = Field(0.1, gt=1e-6, description="divides the similarities; small: hard negatives count more")


class SimCLR(Method):
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
    Config = SimCLRConfig
    config: SimCLRConfig

    def __init__(self, backbone: Backbone, config: SimCLRConfig | None = None, augment: Augment | None = None) -> None:
        super().__init__(backbone, config, augment)
        self.projector = SimCLRProjectionHead(backbone.embed_dim, self.config.hidden_dim, self.config.projection_dim)
        self.criterion = NTXentLoss(self.config.temperature)

    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        """Return NT-Xent of the projections (equation 1 of the paper)."""
        first, second = (self.projector(features) for features in online)  # (N, P)
        return {"loss": self.criterion(first, second)}

"""BYOL: Bootstrap Your Own Latent (Grill et al. 2020), https://arxiv.org/abs/2006.07733.

An online network predicts a momentum encoder's projection of the other view. There are no negatives; the momentum
encoder, updated once per optimiser step, prevents collapse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from torch import Tensor

from ssl3d.method import (
    AUTO_MOMENTUM,
    AutoMomentum,
    Batch,
    Card,
    Config,
    Field,
    Kept,
    Loss,
    Method,
    Momentum,
    MomentumSetting,
    Rows,
    cosine_momentum,
)


class BYOLConfig(Config):
    """Settings of BYOL."""

    hidden_dim: int = Field(4096, ge=1, description="width of the projector's and predictor's hidden layer")
    projection_dim: int = Field(256, ge=1, description="width of their output")
    momentum: Annotated[MomentumSetting, AutoMomentum(0.996)] = Field(
        "auto", description="weight of the old momentum encoder; rises to 1 (cosine); 0.996 in the paper"
    )


class BYOL(Method[BYOLConfig]):
    """BYOL on volumes: both views go through both networks, and the two losses are added."""

    card: ClassVar[Card] = Card(
        name="BYOL",
        summary="predicts a momentum encoder's projection of the other view; no negatives",
        paper="Grill et al., Bootstrap Your Own Latent",
        year=2020,
        link="https://arxiv.org/abs/2006.07733",
        departures=(
            "Views are 3D crops of one volume with intensity changes; there is no colour to jitter.",
            "Optimiser, learning rate and batch are the recipe's, not the paper's (LARS, batches of 4,096).",
            AUTO_MOMENTUM,
        ),
    )

    def build(self) -> None:
        """Make projector, predictor, and the momentum copies of backbone and projector."""
        hidden, out = self.config.hidden_dim, self.config.projection_dim
        self.projector = BYOLProjectionHead(self.backbone.embed_dim, hidden, out)
        self.predictor = BYOLPredictionHead(out, hidden, out)
        self.momentum_backbone = Momentum(self.backbone)
        self.momentum_projector = Momentum(self.projector)
        self.similarity = NegativeCosineSimilarity()

    def target(self, view: Tensor, rows: Rows) -> Tensor:  # noqa: ARG002
        """Return the momentum encoder's features (B, F)."""
        return self.momentum_backbone(view)

    def loss(self, batch: Batch) -> Loss:
        """Return 2 - 2 cos of prediction and target, both directions (equations 2 and 3 of the paper)."""
        first, second = (self.predictor(self.projector(features)) for features in batch.online)  # (N, P)
        first_target, second_target = (self.momentum_projector(features).detach() for features in batch.target)
        similarity = self.similarity(first, second_target) + self.similarity(second, first_target)
        return Loss(4 + 2 * similarity)

    def after_step(self, progress: float, kept: Kept) -> None:  # noqa: ARG002
        """Update the momentum encoder."""
        momentum = cosine_momentum(self.resolved["momentum"], progress)
        self.momentum_backbone.update(momentum)
        self.momentum_projector.update(momentum)


class BYOLMed3DConfig(BYOLConfig):
    """Settings of BYOLMed3D."""

    momentum: Annotated[MomentumSetting, AutoMomentum(0.996)] = Field(
        0.996, description="weight of the old momentum encoder; rises to 1 (cosine)"
    )


class BYOLMed3D(BYOL):
    """BYOL with the settings of BYOLMed3D (Manna et al. 2022), to reproduce it: https://arxiv.org/abs/2208.00444."""

    card: ClassVar[Card] = Card(
        name="BYOLMed3D",
        summary="BYOL with BYOLMed3D's settings: LARS, and plain accumulation of micro-batches of two",
        paper="Manna et al., BYOLMed3D: Self-Supervised Representation Learning of Medical Videos",
        year=2022,
        link="https://arxiv.org/abs/2208.00444",
        departures=(
            "The momentum encoder moves once per optimiser step and never in evaluation; in the public code it moves "
            "with every micro-batch and with validation batches, and its schedule counts micro-batches.",
            "Views are two crops of the whole volume; in the public code some pairs come from two clips, and clips "
            "never reach the last slices.",
            "A short last window is divided by its true length.",
            "Settings are those of the public code's classes (hidden 4096, output 256, momentum 0.996); its command "
            "line has others (2048, 128, 0.99).",
        ),
    )
    Config = BYOLMed3DConfig
    preset: ClassVar[Mapping[str, Any]] = {
        "view_size": (16, 224, 224),
        "backbone_config": {"norm": "batch"},
        "pretrain": {
            "epochs": 100,
            "batch_size": 64,
            "micro_batch": 2,
            "accumulation": "plain",
            "optimizer": "lars",
            "lr": 0.2,
            "lr_scaling": "none",
            "weight_decay": 1e-6,
            "warmup_epochs": 10.0,
        },
        "augment": {"crop": (0.5, 1.0), "flip": (0.0, 0.0, 0.0), "rotate": 0.0, "gamma": 0.0, "noise": 0.0},
    }

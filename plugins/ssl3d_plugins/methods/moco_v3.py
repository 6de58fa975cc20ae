"""MoCo v3: an empirical study of training self-supervised vision transformers (Chen et al. 2021).

https://arxiv.org/abs/2104.02057. A prediction of each view must find its key, the momentum encoder's projection of the
other view, among the keys of all volumes in the effective batch: MoCo without a queue.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import torch
from lightly.models.modules.heads import ProjectionHead
from torch import Tensor, nn
from torch.nn import functional as F

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


class MoCoV3Config(Config):
    """Settings of MoCo v3, with the paper's values for vision transformers."""

    hidden_dim: int = Field(4096, ge=1, description="width of the hidden layers of projector and predictor")
    projection_dim: int = Field(256, ge=1, description="width of their output")
    temperature: float = Field(0.2, gt=1e-6, description="divides the similarities")
    momentum: Annotated[MomentumSetting, AutoMomentum(0.99)] = Field(
        "auto", description="weight of the old momentum encoder; rises to 1 (cosine); 0.99 in the paper"
    )


class MoCoV3(Method[MoCoV3Config]):
    """MoCo v3 on volumes: the negatives are the keys of the whole effective batch."""

    card: ClassVar[Card] = Card(
        name="MoCo v3",
        summary="contrasts predictions with momentum keys within the effective batch; no queue",
        paper="Chen et al., An Empirical Study of Training Self-Supervised Vision Transformers",
        year=2021,
        link="https://arxiv.org/abs/2104.02057",
        departures=(
            "Views are 3D crops of one volume, both augmented alike; in the paper, blur and solarisation differ.",
            "A transformer's patch embedding is trained, not frozen at its initial weights.",
            "Learning rate and batch are the recipe's, not the paper's (batches of 4,096).",
            AUTO_MOMENTUM,
        ),
    )
    preset: ClassVar[Mapping[str, Any]] = {"pretrain": {"weight_decay": 0.1}}

    def build(self) -> None:
        """Make projector and predictor, and the momentum copies of backbone and projector."""
        hidden, out = self.config.hidden_dim, self.config.projection_dim
        self.projector = mlp(self.backbone.embed_dim, hidden, hidden, out)
        self.predictor = mlp(out, hidden, out)
        self.momentum_backbone = Momentum(self.backbone)
        self.momentum_projector = Momentum(self.projector)

    def target(self, view: Tensor, rows: Rows) -> Tensor:  # noqa: ARG002
        """Return the momentum encoder's features (B, F)."""
        return self.momentum_backbone(view)

    def loss(self, batch: Batch) -> Loss:
        """Return 2 T InfoNCE of predictions and keys, summed over both directions (algorithm 1 of the paper)."""
        first, second = (self.predictor(self.projector(features)) for features in batch.online)  # (N, P)
        first_key, second_key = (self.momentum_projector(features).detach() for features in batch.target)
        return Loss(self.contrast(first, second_key) + self.contrast(second, first_key))

    def contrast(self, query: Tensor, key: Tensor) -> Tensor:
        """Return 2 T InfoNCE of queries (N, P) among keys (N, P); each has the key of its own volume."""
        logits = F.normalize(query) @ F.normalize(key).T / self.config.temperature  # (N, N)
        labels = torch.arange(len(logits), device=logits.device)
        return 2 * self.config.temperature * F.cross_entropy(logits, labels)

    def after_step(self, progress: float, kept: Kept) -> None:  # noqa: ARG002
        """Update the momentum encoder: once per step, not in ``target``, which encodes every micro-batch."""
        momentum = cosine_momentum(self.resolved["momentum"], progress)
        self.momentum_backbone.update(momentum)
        self.momentum_projector.update(momentum)


def mlp(*widths: int) -> ProjectionHead:
    """Return linear layers without bias, each with batch norm; the last one has no affine parameters and no ReLU."""
    *hidden, last = pairwise(widths)
    layers: list[tuple[int, int, nn.Module | None, nn.Module | None]] = [
        (before, after, nn.BatchNorm1d(after), nn.ReLU()) for before, after in hidden
    ]
    return ProjectionHead([*layers, (*last, nn.BatchNorm1d(last[1], affine=False), None)])

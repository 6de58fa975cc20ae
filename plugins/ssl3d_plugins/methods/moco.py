"""MoCo v2: momentum contrast (Chen et al. 2020), https://arxiv.org/abs/2003.04297.

MoCo: He et al. 2019, https://arxiv.org/abs/1911.05722.

A query must find its key, the momentum encoder's projection of the other view, among a queue of keys from earlier
effective batches.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from lightly.models.modules.heads import MoCoProjectionHead
from torch import Tensor
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
)
from ssl3d.parts.queue import AUTO_QUEUE, AutoQueue, Queue, QueueSize


class MoCoConfig(Config):
    """Settings of MoCo v2."""

    hidden_dim: int = Field(2048, ge=1, description="width of the projector's hidden layer")
    projection_dim: int = Field(128, ge=1, description="width of its output")
    queue_size: Annotated[QueueSize, AutoQueue(65536)] = Field(
        "auto", description="keys of earlier effective batches that serve as negatives; 65,536 in the paper"
    )
    temperature: float = Field(0.2, gt=1e-6, description="divides the similarities")
    momentum: Annotated[MomentumSetting, AutoMomentum(0.999, cosine=False)] = Field(
        "auto", description="weight of the old momentum encoder; 0.999 in the paper"
    )


class MoCo(Method[MoCoConfig]):
    """MoCo v2 on volumes."""

    card: ClassVar[Card] = Card(
        name="MoCo v2",
        summary="contrasts a query with its momentum key against a queue of earlier keys",
        paper="Chen et al., Improved Baselines with Momentum Contrastive Learning",
        year=2020,
        link="https://arxiv.org/abs/2003.04297",
        departures=(
            "Keys are not shuffled between devices: with group norm nothing leaks between the volumes of a batch.",
            "Optimiser, learning rate and batch are the recipe's, not the paper's (SGD, batches of 256).",
            "Before the queue is full, only the keys it holds are negatives; the paper starts from random ones.",
            AUTO_MOMENTUM,
            AUTO_QUEUE,
        ),
    )
    online_views = (0,)
    target_views = (1,)

    def build(self) -> None:
        """Make the projector, the momentum copies of backbone and projector, and an empty queue."""
        width = self.config.projection_dim
        self.projector = MoCoProjectionHead(self.backbone.embed_dim, self.config.hidden_dim, width)
        self.momentum_backbone = Momentum(self.backbone)
        self.momentum_projector = Momentum(self.projector)
        self.queue = Queue(int(self.resolved["queue_size"]), width)

    def target(self, view: Tensor, rows: Rows) -> Tensor:  # noqa: ARG002
        """Return the momentum encoder's features (B, F)."""
        return self.momentum_backbone(view)

    def loss(self, batch: Batch) -> Loss:
        """Return InfoNCE of each query with its key against the queue (equation 1 of the paper)."""
        query = F.normalize(self.projector(batch.online[0]))  # (N, P)
        key = F.normalize(self.momentum_projector(batch.target[0])).detach()  # (N, P)
        positive = (query * key).sum(1, keepdim=True)  # (N, 1)
        negative = query @ self.queue.held.to(query).T  # (N, K)
        logits = torch.cat([positive, negative], 1) / self.config.temperature  # (N, 1 + K)
        labels = torch.zeros(len(query), dtype=torch.long, device=query.device)
        return Loss(F.cross_entropy(logits, labels), rows={"keys": key})

    def after_step(self, progress: float, kept: Kept) -> None:  # noqa: ARG002
        """Update the momentum encoder, and push the keys of the whole effective batch."""
        self.momentum_backbone.update(self.resolved["momentum"])
        self.momentum_projector.update(self.resolved["momentum"])
        self.queue.push(kept.rows["keys"])

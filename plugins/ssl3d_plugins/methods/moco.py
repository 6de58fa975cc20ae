"""MoCo v2: momentum contrast (Chen et al. 2020), https://arxiv.org/abs/2003.04297.

MoCo itself: He et al. 2019, https://arxiv.org/abs/1911.05722.

A query must find its key, the momentum encoder's projection of the other view, among a queue of keys of earlier
effective batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from lightly.models.modules.heads import MoCoProjectionHead
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ssl3d.backbone import Backbone
from ssl3d.card import Card
from ssl3d.config import Config
from ssl3d.data.augment import Augment
from ssl3d.method import Method
from ssl3d.momentum import MomentumEncoder


class MoCoConfig(Config):
    """Settings of MoCo v2."""

    hidden_dim: int = Field(2048, ge=1, description="width of the projector's hidden layer")
    projection_dim: int = Field(128, ge=1, description="width of its output")
    queue_size: int = Field(65536, ge=1, description="keys of earlier effective batches that serve as negatives")
    temperature: float = Field(0.2, gt=1e-6, description="divides the similarities")
    momentum: float = Field(0.999, ge=0, le=1, description="weight of the old momentum encoder")


class MoCo(Method):
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
        ),
    )
    Config = MoCoConfig
    config: MoCoConfig
    online_views = (0,)
    target_views = (1,)
    queue: Tensor
    filled: Tensor
    cursor: Tensor

    def __init__(self, backbone: Backbone, config: MoCoConfig | None = None, augment: Augment | None = None) -> None:
        super().__init__(backbone, config, augment)
        self.projector = MoCoProjectionHead(backbone.embed_dim, self.config.hidden_dim, self.config.projection_dim)
        self.momentum = MomentumEncoder(backbone=backbone, projector=self.projector)
        self.register_buffer("queue", torch.zeros(self.config.queue_size, self.config.projection_dim))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.long))

    def target(self, view: Tensor) -> Tensor:
        """Return the momentum encoder's features (B, F)."""
        return self.momentum.backbone(view)  # type: ignore[operator,no-any-return]

    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return InfoNCE of each query with its key against the queue (equation 1 of the paper)."""
        query = F.normalize(self.projector(online[0]))  # (N, P)
        key = F.normalize(self.momentum.projector(target[0])).detach()  # type: ignore[operator]  # (N, P)
        positive = (query * key).sum(1, keepdim=True)  # (N, 1)
        negative = query @ self.queue[: int(self.filled)].to(query).T  # (N, K)
        logits = torch.cat([positive, negative], 1) / self.config.temperature  # (N, 1 + K)
        labels = torch.zeros(len(query), dtype=torch.long, device=query.device)
        return {"loss": F.cross_entropy(logits, labels), "keys": key}

    @torch.no_grad()
    def after_step(self, progress: float, kept: Mapping[str, Tensor]) -> None:  # noqa: ARG002
        """Move the momentum encoder and push the keys of the whole effective batch, wrapping round the queue's end."""
        self.momentum.update(self.config.momentum, backbone=self.backbone, projector=self.projector)
        keys = kept["keys"][-len(self.queue) :]
        places = (self.cursor + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys.to(self.queue)
        self.cursor.copy_((self.cursor + len(keys)) % len(self.queue))
        self.filled.copy_(torch.clamp(self.filled + len(keys), max=len(self.queue)))

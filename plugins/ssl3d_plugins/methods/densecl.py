"""DenseCL: dense contrastive learning (Wang et al. 2021), https://arxiv.org/abs/2011.09157.

MoCo v2, applied globally and at every position of the last feature map: a position of one view must find the position
of the other view that matches it best in the backbone's features, among pooled dense keys of earlier effective batches.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from lightly.models.modules.heads import DenseCLProjectionHead
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


class DenseCLConfig(Config):
    """Settings of DenseCL."""

    hidden_dim: int = Field(2048, ge=1, description="width of the hidden layer of both projectors")
    projection_dim: int = Field(128, ge=1, description="width of their output")
    queue_size: Annotated[QueueSize, AutoQueue(65536)] = Field(
        "auto", description="keys of earlier effective batches that serve as negatives; 65,536 in the paper"
    )
    temperature: float = Field(0.2, gt=1e-6, description="divides the similarities")
    momentum: Annotated[MomentumSetting, AutoMomentum(0.999, cosine=False)] = Field(
        "auto", description="weight of the old momentum encoder; 0.999 in the paper"
    )
    dense_weight: float = Field(0.5, ge=0, le=1, description="weight of the dense loss; the global one has the rest")


class DenseCL(Method[DenseCLConfig]):
    """DenseCL on volumes."""

    card: ClassVar[Card] = Card(
        name="DenseCL",
        summary="contrasts volumes, and the places of their feature maps, with queues of earlier keys",
        paper="Wang et al., Dense Contrastive Learning for Self-Supervised Visual Pre-Training",
        year=2021,
        link="https://arxiv.org/abs/2011.09157",
        departures=(
            "Keys are not shuffled between devices: with group norm nothing leaks between the volumes of a batch.",
            "Optimiser, learning rate and batch are the recipe's, not the paper's (SGD, batches of 256).",
            "Before the queues are full, only the keys they hold are negatives; the paper starts from random ones.",
            AUTO_MOMENTUM,
            AUTO_QUEUE,
        ),
    )
    coupled = False  # given the queues, which earlier steps fill, volumes do not interact
    online_views = (0,)
    target_views = (1,)

    def build(self) -> None:
        """Make both projectors, the momentum encoder and the queues."""
        config = self.config
        self.projector = DenseCLProjectionHead(self.backbone.embed_dim, config.hidden_dim, config.projection_dim)
        self.dense_projector = DenseCLProjectionHead(self.backbone.embed_dim, config.hidden_dim, config.projection_dim)
        self.key_backbone = Momentum(self.backbone)
        self.key_projector, self.key_dense_projector = Momentum(self.projector), Momentum(self.dense_projector)
        size = int(self.resolved["queue_size"])
        self.queue, self.dense_queue = Queue(size, config.projection_dim), Queue(size, config.projection_dim)

    def online(self, view: Tensor, rows: Rows) -> Tensor:  # noqa: ARG002
        """Return the last feature map (B, F, D, H, W)."""
        return self.backbone.forward_features(view)[-1]

    def target(self, view: Tensor, rows: Rows) -> Tensor:  # noqa: ARG002
        """Return the momentum encoder's last feature map (B, F, D, H, W)."""
        return self.key_backbone.module.forward_features(view)[-1]

    def loss(self, batch: Batch) -> Loss:
        """Return the weighted sum of the global and the dense InfoNCE (equations 1 to 4)."""
        features, others = (one.flatten(2).transpose(1, 2) for one in (batch.online[0], batch.target[0]))  # (N, S, F)
        query = F.normalize(self.projector(features.mean(dim=1)), dim=-1)  # (N, P)
        dense_query = F.normalize(self.dense_projector(features), dim=-1)  # (N, S, P)
        with torch.no_grad():
            key = F.normalize(self.key_projector(others.mean(dim=1)), dim=-1)  # (N, P)
            dense_key = self.key_dense_projector(others)  # (N, S, P)
            cosines = F.normalize(features, dim=-1) @ F.normalize(others, dim=-1).transpose(1, 2)  # (N, S, S)
            match = cosines.argmax(dim=2)[..., None].expand_as(dense_key)
            positive = F.normalize(dense_key.gather(1, match), dim=-1)  # (N, S, P)
            pooled = F.normalize(dense_key.mean(dim=1), dim=-1)  # (N, P)
        whole = self.contrast(query, key, self.queue.held)
        dense = self.contrast(dense_query.flatten(0, 1), positive.flatten(0, 1), self.dense_queue.held)
        value = (1 - self.config.dense_weight) * whole + self.config.dense_weight * dense
        return Loss(value, scalars={"global": whole, "dense": dense}, rows={"keys": key, "dense_keys": pooled})

    def contrast(self, query: Tensor, key: Tensor, negatives: Tensor) -> Tensor:
        """Return InfoNCE of queries (n, P), each with its key (n, P), against negatives (K, P)."""
        logits = torch.cat([(query * key).sum(1, keepdim=True), query @ negatives.to(query).T], dim=1)  # (n, 1 + K)
        return F.cross_entropy(logits / self.config.temperature, logits.new_zeros(len(logits), dtype=torch.long))

    def after_step(self, progress: float, kept: Kept) -> None:  # noqa: ARG002
        """Update the momentum encoder, and push the keys of the effective batch, after the loss has used both."""
        for follower in (self.key_backbone, self.key_projector, self.key_dense_projector):
            follower.update(self.resolved["momentum"])
        self.queue.push(kept.rows["keys"])
        self.dense_queue.push(kept.rows["dense_keys"])

"""NNCLR: nearest-neighbour contrastive learning (Dwibedi et al. 2021), https://arxiv.org/abs/2104.14548.

Like SimCLR, but the positive of a view is not the other view of its volume but that view's nearest neighbour among
projections from earlier effective batches, which shows another patient.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from lightly.models.modules.heads import NNCLRPredictionHead, NNCLRProjectionHead
from torch import Tensor
from torch.nn import functional as F

from ssl3d.method import Batch, Card, Config, Field, Kept, Loss, Method
from ssl3d.parts.queue import AUTO_QUEUE, AutoQueue, Queue, QueueSize


class NNCLRConfig(Config):
    """Settings of NNCLR."""

    hidden_dim: int = Field(2048, ge=1, description="width of the projector's two hidden layers")
    predictor_dim: int = Field(4096, ge=1, description="width of the predictor's hidden layer")
    projection_dim: int = Field(256, ge=1, description="width of the output of both")
    queue_size: Annotated[QueueSize, AutoQueue(98304)] = Field(
        "auto", description="projections of earlier effective batches to choose from; 98,304 in the paper"
    )
    temperature: float = Field(0.1, gt=1e-6, description="divides the similarities")


class NNCLR(Method[NNCLRConfig]):
    """NNCLR on volumes: both views look up a neighbour, and the first is queued."""

    card: ClassVar[Card] = Card(
        name="NNCLR",
        summary="contrasts a view with the nearest earlier projection of the other view, in place of that view",
        paper="Dwibedi et al., With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning of Visual "
        "Representations",
        year=2021,
        link="https://arxiv.org/abs/2104.14548",
        departures=(
            "Views are 3D crops of one volume with intensity changes; there is no colour to jitter.",
            "The queue may hold half an epoch, and a neighbour may then be an earlier view of the same volume; the "
            "paper's holds a thirteenth of one.",
            "The queue is empty at first, and a projection is then its own neighbour; the paper starts from random "
            "ones.",
            "Optimiser, learning rate and batch are the recipe's, not the paper's (LARS, batches of 4,096).",
            AUTO_QUEUE,
        ),
    )

    def build(self) -> None:
        """Make projector, predictor, and an empty queue."""
        config = self.config
        self.projector = NNCLRProjectionHead(self.backbone.embed_dim, config.hidden_dim, config.projection_dim)
        self.predictor = NNCLRPredictionHead(config.projection_dim, config.predictor_dim, config.projection_dim)
        self.queue = Queue(int(self.resolved["queue_size"]), config.projection_dim)

    def loss(self, batch: Batch) -> Loss:
        """Return InfoNCE of each view's neighbours and the other view's predictions (equation 3 of the paper)."""
        first, second = (self.projector(features) for features in batch.online)  # (N, P)
        value = self.contrast(first, self.predictor(second)) + self.contrast(second, self.predictor(first))
        return Loss(value / 2, rows={"projections": F.normalize(first)})

    def contrast(self, projection: Tensor, prediction: Tensor) -> Tensor:
        """Return InfoNCE of the neighbours of projections (N, P) with predictions (N, P) of the same volumes."""
        neighbour = self.neighbour(F.normalize(projection.detach()))  # (N, P)
        logits = neighbour @ F.normalize(prediction).T / self.config.temperature  # (N, N)
        return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))

    def neighbour(self, projection: Tensor) -> Tensor:
        """Return the queue's nearest row to each projection (N, P), all of unit length; the input if it is empty."""
        held = self.queue.held.to(projection)  # (K, P), none from this effective batch
        return held[(projection @ held.T).argmax(dim=1)] if len(held) else projection

    def after_step(self, progress: float, kept: Kept) -> None:  # noqa: ARG002
        """Push the first view's projections, after the neighbours were looked up; otherwise each would find itself."""
        self.queue.push(kept.rows["projections"])

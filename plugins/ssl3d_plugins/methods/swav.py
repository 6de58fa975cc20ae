"""SwAV: contrasting cluster assignments (Caron et al. 2020), https://arxiv.org/abs/2006.09882.

Each crop of a volume predicts the prototype assignments of another, large crop. The assignments of the effective batch
are balanced over the prototypes by Sinkhorn's algorithm, so that no prototype dominates.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from lightly.models.modules.heads import SwaVProjectionHead
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.method import (
    Batch,
    Card,
    Config,
    Field,
    Kept,
    Loss,
    Method,
    ParameterGroup,
    Rng,
    Views,
    Volumes,
)
from ssl3d.parts.multicrop import small_crops
from ssl3d.parts.prototypes import crop_cross_entropy, prototype_groups, sinkhorn
from ssl3d.parts.queue import AUTO_QUEUE, AutoQueue, Queue, QueueSize

Share = Annotated[float, Field(gt=0, le=1)]


class SwAVConfig(Config):
    """Settings of SwAV."""

    local_crops: int = Field(6, ge=0, description="small crops, which are not assigned, and only predict")
    local_size: float = Field(0.43, gt=0, le=1, description="their size along each axis, as a share of a large crop's")
    local_crop: tuple[Share, Share] = Field(
        (0.05, 0.14), description="range of the share of the in-plane area they keep"
    )
    local_depth: tuple[Share, Share] = Field((0.3, 0.6), description="range of the share of the slices they keep")
    hidden_dim: int = Field(2048, ge=1, description="width of the projector's hidden layer")
    projection_dim: int = Field(128, ge=1, description="width of its output and of the prototypes")
    prototypes: int = Field(3000, ge=2, description="number of prototypes")
    temperature: float = Field(0.1, gt=1e-6, description="divides the predictions")
    epsilon: float = Field(0.05, ge=0.03, description="divides the scores that are balanced; small: sharp assignments")
    iterations: int = Field(3, ge=1, description="of Sinkhorn's algorithm")
    queue_size: Annotated[QueueSize, AutoQueue(3840)] = Field(
        "auto", description="earlier projections of each large crop that are assigned, too; 3,840 in the paper"
    )
    queue_start: float = Field(0.0375, ge=0, le=1, description="share of the training before anything is queued")
    freeze_prototypes: float = Field(0.01, ge=0, lt=1, description="share of the training before the prototypes move")


class SwAV(Method[SwAVConfig]):
    """SwAV on volumes: two large crops and several small ones."""

    card: ClassVar[Card] = Card(
        name="SwAV",
        summary="predicts a crop's balanced assignment to prototypes from the other crops of its volume",
        paper="Caron et al., Unsupervised Learning of Visual Features by Contrasting Cluster Assignments",
        year=2020,
        link="https://arxiv.org/abs/2006.09882",
        departures=(
            "Crops are 3D and have intensity changes; there is no colour to jitter.",
            "The queue is that of the paper's batches of 256, and starts after the same share of the training (15 of "
            "400 epochs); what it holds is assigned, too, even before it is full.",
            "Prototypes are frozen for a hundredth of the training (one epoch in the paper).",
            "Optimiser, learning rate and batch are the recipe's, not the paper's (LARS, batches of 256 or 4,096).",
            AUTO_QUEUE,
        ),
    )

    def build(self) -> None:
        """Make projector, prototypes of unit length, queues, and the augmentation of small crops."""
        config, width = self.config, self.config.projection_dim
        self.local = small_crops(self.augment, self.backbone, config.local_size, config.local_crop, config.local_depth)
        self.projector = SwaVProjectionHead(self.backbone.embed_dim, config.hidden_dim, width)
        self.prototypes = nn.Linear(width, config.prototypes, bias=False)
        size = int(self.resolved["queue_size"])
        self.first_queue, self.second_queue = Queue(size, width), Queue(size, width)
        self.normalize_prototypes()

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        """Return two large crops and the small ones."""
        large = [self.augment(volumes, rng) for _ in range(2)]
        return Views(*large, *(self.local(volumes, rng) for _ in range(self.config.local_crops)))

    def loss(self, batch: Batch) -> Loss:
        """Return the mean cross-entropy of a large crop's assignment and another crop's prediction (equation 2)."""
        features = torch.stack(batch.online)  # (V, N, F)
        projection = F.normalize(self.projector(features.flatten(0, 1))).view(*features.shape[:2], -1)  # (V, N, P)
        scores = self.prototypes(projection)  # (V, N, K)
        assigned = torch.stack([self.assign(scores[0], self.first_queue), self.assign(scores[1], self.second_queue)])
        value = crop_cross_entropy(assigned, scores / self.config.temperature)
        return Loss(value, rows={"first": projection[0], "second": projection[1]})

    @torch.no_grad()
    def assign(self, scores: Tensor, queue: Queue) -> Tensor:
        """Return the assignments (N, K) of one crop's scores, balanced together with those of its queue."""
        held = self.prototypes(queue.held.to(scores))
        return sinkhorn(torch.cat([scores, held]) / self.config.epsilon, self.config.iterations)[: len(scores)]

    def after_step(self, progress: float, kept: Kept) -> None:
        """Renormalise the prototypes to unit length, and push the large crops' projections."""
        self.normalize_prototypes()
        if progress >= self.config.queue_start:
            self.first_queue.push(kept.rows["first"])
            self.second_queue.push(kept.rows["second"])

    @torch.no_grad()
    def normalize_prototypes(self) -> None:
        """Normalise each prototype to unit length."""
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight))

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the default groups, and the prototypes, which are frozen at first."""
        return prototype_groups(self, self.config.freeze_prototypes)

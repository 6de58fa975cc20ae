"""DINO: self-distillation with no labels (Caron et al. 2021), https://arxiv.org/abs/2104.14294.

A student assigns each crop of a volume to prototypes and must agree with its momentum teacher, which sees only the two
large crops. The teacher's assignments are centred, so that no prototype dominates, and sharpened by a low temperature,
so that they do not become uniform: together these prevent collapse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl3d.method import (
    AUTO_MOMENTUM,
    AutoMomentum,
    Batch,
    Card,
    Field,
    Kept,
    Loss,
    Method,
    Momentum,
    MomentumSetting,
    ParameterGroup,
    Rng,
    Views,
    Volumes,
    cosine_momentum,
)
from ssl3d.parts.multicrop import small_crops
from ssl3d.parts.prototypes import PrototypeHead, SelfDistillationConfig, crop_cross_entropy, prototype_groups


class DINOConfig(SelfDistillationConfig):
    """Settings of DINO."""

    momentum: Annotated[MomentumSetting, AutoMomentum(0.996)] = Field(
        "auto", description="weight of the old teacher; rises to 1 (cosine); 0.996 in the paper"
    )


class DINO(Method[DINOConfig]):
    """DINO on volumes: two large crops and several small ones."""

    card: ClassVar[Card] = Card(
        name="DINO",
        summary="matches a momentum teacher's prototype assignments across large and small crops",
        paper="Caron et al., Emerging Properties in Self-Supervised Vision Transformers",
        year=2021,
        link="https://arxiv.org/abs/2104.14294",
        departures=(
            "Crops are 3D and have intensity changes; there is no colour to jitter and no solarisation.",
            "Warm-up and freezing are shares of the training: a tenth (30 epochs in the paper) and a hundredth (one).",
            "Learning rate and batch are the recipe's, not the paper's.",
            "The student drops no paths of the network.",
            "The student is evaluated; in the paper it is the teacher.",
            AUTO_MOMENTUM,
        ),
    )
    preset: ClassVar[Mapping[str, Any]] = {
        "pretrain": {"weight_decay": 0.04, "weight_decay_end": 0.4, "clip_gradient": 3.0}
    }
    coupled = False  # given the centre, which earlier steps decide, volumes do not interact
    target_views = (0, 1)
    center: Tensor

    def build(self) -> None:
        """Make the head, the teacher, the centre, and the augmentation of small crops."""
        config = self.config
        self.local = small_crops(self.augment, self.backbone, config.local_size, config.local_crop, config.local_depth)
        width = self.backbone.embed_dim
        self.head = PrototypeHead(width, config.hidden_dim, config.bottleneck_dim, config.prototypes)
        self.teacher, self.teacher_head = Momentum(self.backbone), Momentum(self.head)
        self.register_buffer("center", torch.zeros(config.prototypes))

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        """Return two large crops and the small ones."""
        large = [self.augment(volumes, rng) for _ in range(2)]
        return Views(*large, *(self.local(volumes, rng) for _ in range(self.config.local_crops)))

    def target(self, view: Tensor, rows: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002
        """Return the teacher's features (B, F)."""
        return self.teacher(view)

    def loss(self, batch: Batch) -> Loss:
        """Return the mean cross-entropy over pairs of a teacher's and another student's crop (equation 3)."""
        student = self.head(torch.stack(batch.online))  # (V, N, K)
        with torch.no_grad():
            teacher = self.teacher_head(torch.stack(batch.target))  # (2, N, K)
        assigned = F.softmax((teacher - self.center) / self.config.temperature(batch.progress), dim=-1)
        value = crop_cross_entropy(assigned, student / self.config.student_temperature)
        count = teacher.new_tensor(teacher.shape[0] * teacher.shape[1])
        return Loss(value, sums={"teacher": teacher.sum((0, 1)), "count": count})

    def after_step(self, progress: float, kept: Kept) -> None:
        """Update the teacher, and the centre by the mean of its outputs over the effective batch (equation 4)."""
        momentum = cosine_momentum(self.resolved["momentum"], progress)
        self.teacher.update(momentum)
        self.teacher_head.update(momentum)
        self.center.lerp_(kept.sums["teacher"] / kept.sums["count"], 1 - self.config.center_momentum)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the default groups, and the prototypes, which are frozen at first."""
        return prototype_groups(self, self.config.freeze_prototypes)

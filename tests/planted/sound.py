"""A sound method that makes its momentum encoder by hand, and one of every unusual kind of view, feature and loss."""

from __future__ import annotations

import copy
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.method import (
    Batch,
    Card,
    Features,
    Kept,
    Loss,
    Method,
    ParameterGroup,
    Rng,
    Rows,
    Views,
    Volumes,
    split_by_decay,
)
from ssl3d_plugins.methods.byol import BYOL
from ssl3d_plugins.methods.moco import MoCo
from ssl3d_plugins.methods.simclr import SimCLR


class HomeMade(BYOL):
    """BYOL whose momentum encoder is two deep copies, moved by hand."""

    def build(self) -> None:
        super().build()
        del self.momentum_backbone, self.momentum_projector
        self.slow_backbone = copy.deepcopy(self.backbone).requires_grad_(False)
        self.slow_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def target(self, view: Tensor, rows: Rows) -> Tensor:
        return self.slow_backbone(view)

    def loss(self, batch: Batch) -> Loss:
        first, second = (self.predictor(self.projector(features)) for features in batch.online)
        one, other = (self.slow_projector(features) for features in batch.target)
        return Loss(4 + 2 * (self.similarity(first, other) + self.similarity(second, one)))

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        slow = [*self.slow_backbone.parameters(), *self.slow_projector.parameters()]
        return list(zip(slow, [*self.backbone.parameters(), *self.projector.parameters()], strict=True))

    @torch.no_grad()
    def after_step(self, progress: float, kept: Kept) -> None:
        for slow, fast in self.pairs():
            slow.lerp_(fast, 0.01)


class Unusual(Method):  # type: ignore[type-arg]  # it has no settings
    """Views of several sizes and of two channels, rows, features by name, a head frozen at first, a centre, draws."""

    card: ClassVar[Card] = Card("Unusual", "everything that the contract allows")
    online_views = (0, 1)
    centre: Tensor

    def build(self) -> None:
        self.stem = nn.Conv3d(2, 1, 1)
        self.head = nn.Linear(self.backbone.embed_dim, 3, bias=False)
        self.register_buffer("centre", torch.zeros(3))

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        first, second = self.augment(volumes, rng), self.augment(volumes, rng)
        both, turned = torch.cat([first, second], dim=1), rng.bernoulli(0.5)
        return Views(both, second[..., :-2], first[..., :4], turned=turned, scale=(rng.uniform(), None, None))

    def online(self, view: Tensor, rows: Rows) -> Features:
        features = self.backbone(self.stem(view) if view.shape[1] == 2 else view)
        return {
            "features": features,
            "noisy": F.gelu(features) * (1 + rows["scale"][:, None] if "scale" in rows else 1),
        }

    def loss(self, batch: Batch) -> Loss:
        (first, second), turned = batch.online_maps, batch.rows["turned"]
        scores = [self.head(F.dropout(first["noisy"], 0.1)), self.head(second["features"])]
        margin = (scores[0] - scores[1] - self.centre).square().sum(dim=1) * (1 + turned.to(scores[0]))
        return Loss(
            margin.mean() + first["features"].std(dim=0).sum(),
            scalars={"spread": first["features"].std().detach()},
            rows={"scores": scores[1].detach()},
            sums={"total": scores[1].detach().sum(dim=0)},
        )

    def after_step(self, progress: float, kept: Kept) -> None:
        self.centre.lerp_(kept.sums["total"] / len(kept.rows["scores"]), 0.1)

    def parameter_groups(self) -> list[ParameterGroup]:
        decay, exempt = split_by_decay(self, lambda name: not name.startswith("head."))
        return [
            ParameterGroup(decay),
            ParameterGroup(exempt, weight_decay=0.0),
            ParameterGroup(list(self.head.parameters()), lr=0.5, frozen_until=0.02),
        ]


class Uncoupled(Method):  # type: ignore[type-arg]  # it has no settings
    """A loss that is a mean over some of the volumes: weighted by their number."""

    card: ClassVar[Card] = Card("Uncoupled", "a mean over some of the volumes")
    coupled = False

    def build(self) -> None:
        self.head = nn.Linear(self.backbone.embed_dim, 3)

    def loss(self, batch: Batch) -> Loss:
        total, count = self.total(batch)
        return Loss(total / count.clamp_min(1), weight=count)

    def total(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A sum over some of the volumes, and their number."""
        first, second = (self.head(features) for features in batch.online)
        some = first[:, 0].detach() > second[:, 0].detach()
        return ((first - 2 * second).square().mean(dim=1) * some).sum(), some.sum()


class Noisy(SimCLR):
    """Draws in ``online``, which are other ones in other micro-batches."""

    def online(self, view: Tensor, rows: Rows) -> Features:
        features: Tensor = self.backbone(view)
        return F.dropout(features, 0.1) * (1 + 0.1 * torch.rand(len(features), 1, dtype=features.dtype))


SOUND = [BYOL, SimCLR, MoCo, HomeMade, Unusual, Uncoupled, Noisy]

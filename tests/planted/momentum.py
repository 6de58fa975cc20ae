"""Momentum encoders and queues, each with one fault."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl3d.method import Batch, Kept, Loss, Momentum, Rows
from ssl3d_plugins.methods.byol import BYOL
from ssl3d_plugins.methods.moco import MoCo
from tests.planted.sound import HomeMade


class MomentumTrains(BYOL):
    def build(self) -> None:
        super().build()
        self.momentum_projector.requires_grad_(True)

    def loss(self, batch: Batch) -> Loss:
        first, second = (self.predictor(self.projector(features)) for features in batch.online)
        one, other = (self.momentum_projector(features) for features in batch.target)  # not detached
        return Loss(4 + 2 * (self.similarity(first, other) + self.similarity(second, one)))


class HomeMadeMomentumTrains(HomeMade):
    def build(self) -> None:
        super().build()
        self.slow_projector.requires_grad_(True)


class MomentumNeverMoves(BYOL):
    def after_step(self, progress: float, kept: Kept) -> None:
        pass


class MomentumHeadNeverMoves(HomeMade):
    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.slow_backbone.parameters(), self.backbone.parameters(), strict=True))


class MomentumMovesAway(HomeMade):
    @torch.no_grad()
    def after_step(self, progress: float, kept: Kept) -> None:
        for slow, fast in self.pairs():
            slow.lerp_(fast, -0.01)


class MomentumReversed(BYOL):
    def after_step(self, progress: float, kept: Kept) -> None:
        self.momentum_backbone.update(1 - self.resolved["momentum"])
        self.momentum_projector.update(1 - self.resolved["momentum"])


class OnlineFollowsMomentum(HomeMade):
    @torch.no_grad()
    def after_step(self, progress: float, kept: Kept) -> None:
        for slow, fast in self.pairs():
            fast.lerp_(slow, 0.01)


class MomentumMovesInEvaluation(BYOL):
    def target(self, view: Tensor, rows: Rows) -> Tensor:
        if not self.training:
            self.momentum_backbone.update(0.99)
        return super().target(view, rows)


class MomentumMovesWithEveryMicroBatch(BYOL):
    def target(self, view: Tensor, rows: Rows) -> Tensor:
        if self.training:
            self.momentum_backbone.update(0.99)
        return super().target(view, rows)


class HeadUncopied(BYOL):
    def build(self) -> None:
        super().build()
        fresh = type(self.projector)(6, self.config.hidden_dim, self.config.projection_dim)
        self.momentum_projector = Momentum(self.projector)
        self.momentum_projector.module = fresh.requires_grad_(False)


class HomeMadeHeadUncopied(HomeMade):
    def build(self) -> None:
        super().build()
        fresh = type(self.projector)(6, self.config.hidden_dim, self.config.projection_dim)
        self.slow_projector = fresh.requires_grad_(False)


class QueuePushedInLoss(MoCo):
    def loss(self, batch: Batch) -> Loss:
        loss = super().loss(batch)
        self.queue.rows = torch.cat([loss.rows["keys"], self.queue.rows])[: len(self.queue.rows)]
        return loss

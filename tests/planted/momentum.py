"""Momentum encoders and queues, each with one fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ssl3d.momentum import MomentumEncoder
from tests.planted.sound import HomeMade, SmallBYOL, SmallMoCo


class MomentumTrains(SmallBYOL):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.momentum.requires_grad_(True)

    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:
        first, second = (self.predictor(self.projector(features)) for features in online)
        one, other = (self.momentum.projector(features) for features in target)  # not detached
        return {"loss": 4 + 2 * (self.similarity(first, other) + self.similarity(second, one))}


class HomeMadeMomentumTrains(HomeMade):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.slow_projector.requires_grad_(True)


class MomentumNeverMoves(SmallBYOL):
    def after_step(self, progress: float, kept: Mapping[str, Tensor]) -> None:
        pass


class MomentumHeadNeverMoves(HomeMade):
    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.slow_backbone.parameters(), self.backbone.parameters(), strict=True))


class MomentumMovesAway(HomeMade):
    @torch.no_grad()
    def after_step(self, progress: float, kept: Mapping[str, Tensor]) -> None:
        for slow, fast in self.pairs():
            slow.lerp_(fast, -0.01)


class MomentumReversed(SmallBYOL):
    @torch.no_grad()
    def after_step(self, progress: float, kept: Mapping[str, Tensor]) -> None:
        self.momentum.update(1 - self.config.momentum, backbone=self.backbone, projector=self.projector)


class OnlineFollowsMomentum(HomeMade):
    @torch.no_grad()
    def after_step(self, progress: float, kept: Mapping[str, Tensor]) -> None:
        for slow, fast in self.pairs():
            fast.lerp_(slow, 0.01)


class MomentumMovesInEvaluation(SmallBYOL):
    def target(self, view: Tensor) -> Tensor:
        if not self.training:
            self.momentum.update(0.99, backbone=self.backbone, projector=self.projector)
        return super().target(view)


class MomentumMovesWithEveryMicroBatch(SmallBYOL):
    def target(self, view: Tensor) -> Tensor:
        if self.training:
            self.momentum.update(0.99, backbone=self.backbone, projector=self.projector)
        return super().target(view)


class HeadUncopied(SmallBYOL):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        fresh = type(self.projector)(6, self.config.hidden_dim, self.config.projection_dim)
        self.momentum = MomentumEncoder(backbone=self.backbone, projector=fresh)


class HomeMadeHeadUncopied(HomeMade):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        fresh = type(self.projector)(6, self.config.hidden_dim, self.config.projection_dim)
        self.slow_projector = fresh.requires_grad_(False)


class QueuePushedInLoss(SmallMoCo):
    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:
        outputs = super().loss(online, target)
        self.queue = torch.cat([outputs["keys"], self.queue])[: len(self.queue)]
        return outputs

"""Sound methods with narrow heads."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor

from ssl3d_plugins.methods.byol import BYOL, BYOLConfig
from ssl3d_plugins.methods.moco import MoCo, MoCoConfig
from ssl3d_plugins.methods.simclr import SimCLR, SimCLRConfig


class SmallBYOL(BYOL):
    class Config(BYOLConfig):
        hidden_dim: int = Field(16, ge=1, description="width")
        projection_dim: int = Field(8, ge=1, description="width")


class SmallSimCLR(SimCLR):
    class Config(SimCLRConfig):
        hidden_dim: int = Field(16, ge=1, description="width")
        projection_dim: int = Field(8, ge=1, description="width")


class SmallMoCo(MoCo):
    class Config(MoCoConfig):
        hidden_dim: int = Field(16, ge=1, description="width")
        projection_dim: int = Field(8, ge=1, description="width")
        queue_size: int = Field(20, ge=1, description="keys")


class HomeMade(SmallBYOL):
    """BYOL whose momentum encoder is two deep copies, moved by hand."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        del self.momentum
        self.slow_backbone = copy.deepcopy(self.backbone).requires_grad_(False)
        self.slow_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def target(self, view: Tensor) -> Tensor:
        return self.slow_backbone(view)

    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:
        first, second = (self.predictor(self.projector(features)) for features in online)
        one, other = (self.slow_projector(features) for features in target)
        return {"loss": 4 + 2 * (self.similarity(first, other) + self.similarity(second, one))}

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        slow = [*self.slow_backbone.parameters(), *self.slow_projector.parameters()]
        return list(zip(slow, [*self.backbone.parameters(), *self.projector.parameters()], strict=True))

    @torch.no_grad()
    def after_step(self, progress: float, kept: Mapping[str, Tensor]) -> None:
        for slow, fast in self.pairs():
            slow.lerp_(fast, 0.01)


SOUND = [SmallBYOL, SmallSimCLR, SmallMoCo, HomeMade]

"""Methods, each with one fault in views, parameters, state, loss or words."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.backbone import Backbone
from ssl3d.card import Card
from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes
from tests.planted.sound import SmallMoCo, SmallSimCLR

# Views.


class ViewsOfGlobalTorch(SmallSimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> tuple[Tensor, ...]:
        return tuple(view + 0.1 * torch.randn_like(view) for view in super().views(volumes, rng))


class ViewsOfGlobalNumpy(SmallSimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> tuple[Tensor, ...]:
        return tuple(view + float(np.random.rand()) for view in super().views(volumes, rng))


class ViewsOfTheClock(SmallSimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> tuple[Tensor, ...]:
        return tuple(view + np.random.default_rng().random() for view in super().views(volumes, rng))


class ViewsChangeTheirInput(SmallSimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> tuple[Tensor, ...]:
        views = super().views(volumes, rng)
        volumes.voxels[0].mul_(0)
        return views


class ViewsOfTheBatch(SmallSimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> tuple[Tensor, ...]:
        return tuple(view - view.mean() for view in super().views(volumes, rng))


class ViewsNeverChange(SmallSimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> tuple[Tensor, ...]:
        return super().views(volumes, Rng(0, 0, rng.positions))


class ViewsWithoutAChannel(SmallSimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> tuple[Tensor, ...]:
        return tuple(view.squeeze(1) for view in super().views(volumes, rng))


# Parameters and state.


class ParameterUnused(SmallSimCLR):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.extra = nn.Linear(6, 6)


class ParameterDetached(SmallSimCLR):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.scale = nn.Parameter(torch.ones(()))

    def online(self, view: Tensor) -> Tensor:
        return self.backbone(view) * self.scale.detach()


class ParameterWithoutEffect(SmallSimCLR):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.scale = nn.Parameter(torch.ones(()))

    def online(self, view: Tensor) -> Tensor:
        return self.backbone(view) + 0 * self.scale


class ParameterRegisteredTwice(SmallSimCLR):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.head = self.projector


class EncoderIsAnother(SmallSimCLR):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.spare = copy.deepcopy(self.backbone).requires_grad_(False)

    def encoder(self) -> Backbone:
        return self.spare


class QueueNotInTheState(SmallMoCo):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self._non_persistent_buffers_set.add("queue")


class CounterNotInTheState(SmallSimCLR):
    steps = 0

    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:
        return {"loss": super().loss(online, target)["loss"] * (1 + 0.1 * self.steps)}

    def after_step(self, progress: float, kept: Mapping[str, Tensor]) -> None:
        self.steps += 1


class WeightsOfTheClock(SmallSimCLR):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        with torch.no_grad():
            self.projector.layers[0].weight.add_(float(np.random.default_rng().random()))


# Loss.


class FalselyUncoupled(SmallSimCLR):
    coupled = False


class FeaturesOfTheMicroBatch(SmallSimCLR):
    def online(self, view: Tensor) -> Tensor:
        features = super().online(view)
        return features - 0.5 * features.mean(0)


class RowsOfTheMicroBatch(SmallMoCo):
    def target(self, view: Tensor) -> Tensor:
        features = super().target(view)
        return features + torch.arange(len(features))[:, None]


class LossDraws(SmallSimCLR):
    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:
        return super().loss([F.dropout(features, 0.1) for features in online], target)


class LossOfOneVolumeLess(SmallSimCLR):
    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:
        return {**super().loss(online, target), "rows": online[0][1:]}


class LossOfManyOnly(SmallSimCLR):
    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:
        outputs = super().loss(online, target)
        return {"loss": outputs["loss"] / min(len(online[0]) - 2, 1)}


class FailsUnderBfloat16(SmallSimCLR):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.register_buffer("centre", torch.zeros(6))

    def online(self, view: Tensor) -> Tensor:
        features = super().online(view)
        return features.lerp(self.centre, 0.1)  # two dtypes under autocast


class OverflowsUnderBfloat16(SmallSimCLR):
    def online(self, view: Tensor) -> Tensor:
        features = super().online(view)
        return features * (1 + 1 / ((features.new_ones(()) + 1e-3) - 1))  # 1.001 is 1 in bfloat16


class DoesNotTrain(SmallSimCLR):
    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:
        raise KeyError("projector")


# What it says of itself.


class CardWithoutLink(SmallSimCLR):
    card: ClassVar[Card] = Card("SimCLR", "contrasts views", "Chen et al.", 2020)


class SettingWithoutBounds(SmallSimCLR):
    class Config(SmallSimCLR.Config):
        momentum: float = Field(0.9, description="unbounded")


class SettingWithoutDescription(SmallSimCLR):
    class Config(SmallSimCLR.Config):
        momentum: float = Field(0.9, ge=0)


class SettingWithAWrongDefault(SmallSimCLR):
    class Config(SmallSimCLR.Config):
        momentum: float = Field(2.0, ge=0, le=1, description="of the momentum encoder")


class PresetWithATypo(SmallSimCLR):
    preset: ClassVar[Mapping[str, object]] = {"pretrain": {"epoch": 10}}

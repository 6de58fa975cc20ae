"""Methods, each with one fault in parameters, state, features or loss."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssl3d.backbone import Backbone
from ssl3d.method import (
    Batch,
    Features,
    Kept,
    Loss,
    ParameterGroup,
    Rows,
    split_by_decay,
)
from ssl3d_plugins.methods.moco import MoCo
from ssl3d_plugins.methods.simclr import SimCLR
from ssl3d_plugins.methods.supervised import Supervised
from tests.planted.sound import Uncoupled

# Parameters and state.


class ParameterUnused(SimCLR):
    def build(self) -> None:
        super().build()
        self.extra = nn.Linear(6, 6)


class BackboneFrozen(SimCLR):
    def build(self) -> None:
        super().build()
        self.backbone.requires_grad_(False)


class ParameterDetached(SimCLR):
    def build(self) -> None:
        super().build()
        self.scale = nn.Parameter(torch.ones(()))

    def online(self, view: Tensor, rows: Rows) -> Tensor:
        return self.backbone(view) * self.scale.detach()


class ParameterWithoutEffect(SimCLR):
    def build(self) -> None:
        super().build()
        self.scale = nn.Parameter(torch.ones(()))

    def online(self, view: Tensor, rows: Rows) -> Tensor:
        return self.backbone(view) + 0 * self.scale


class ParameterRegisteredTwice(SimCLR):
    def build(self) -> None:
        super().build()
        self.head = self.projector


class ParameterInNoGroup(SimCLR):
    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(split_by_decay(self)[0])]


class ParameterInTwoGroups(SimCLR):
    def parameter_groups(self) -> list[ParameterGroup]:
        return [*super().parameter_groups(), ParameterGroup(list(self.projector.parameters()), lr=0.1)]


class NegativeMultiplier(SimCLR):
    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(list(self.parameters()), weight_decay=-1.0)]


class EncoderIsAnother(SimCLR):
    def build(self) -> None:
        super().build()
        self.spare = copy.deepcopy(self.backbone).requires_grad_(False)

    def encoder(self) -> Backbone:
        return self.spare


class EncoderIsNone(SimCLR):
    def encoder(self) -> Backbone:
        return None  # type: ignore[return-value]


class QueueNotInTheState(MoCo):
    def build(self) -> None:
        super().build()
        for module in self.modules():
            module._non_persistent_buffers_set.update(name for name in module._buffers if name in {"rows", "queue"})


class CounterNotInTheState(SimCLR):
    steps = 0

    def loss(self, batch: Batch) -> Loss:
        return Loss(super().loss(batch).value * (1 + 0.1 * self.steps))

    def after_step(self, progress: float, kept: Kept) -> None:
        self.steps += 1


class WeightsOfTheClock(SimCLR):
    def build(self) -> None:
        super().build()
        with torch.no_grad():
            next(self.projector.parameters()).add_(float(np.random.default_rng().random()))


# Features.


class NormInOnline(SimCLR):
    def build(self) -> None:
        super().build()
        self.norm = nn.BatchNorm1d(6)

    def online(self, view: Tensor, rows: Rows) -> Tensor:
        return torch.as_tensor(self.norm(self.backbone(view)))


class FeaturesOfTheMicroBatch(SimCLR):
    def online(self, view: Tensor, rows: Rows) -> Tensor:
        features = self.backbone(view)
        return features - 0.5 * features.mean(0)


class TargetsOfTheMicroBatch(MoCo):
    def target(self, view: Tensor, rows: Rows) -> Tensor:
        features = torch.as_tensor(super().target(view, rows))
        return features + torch.arange(len(features))[:, None]


class FeaturesOfAllVolumes(SimCLR):
    def online(self, view: Tensor, rows: Rows) -> Tensor:
        return self.backbone(view).mean(0)


class FeaturesInAList(SimCLR):
    def online(self, view: Tensor, rows: Rows) -> Features:
        return [self.backbone(view)]  # type: ignore[return-value]


class EmbeddingOfMaps(SimCLR):
    def embedding(self, features: Features) -> Tensor:
        return torch.zeros(2, 3, 4)


class HeadOfAFixedWidth(SimCLR):
    def build(self) -> None:
        super().build()
        self.narrow = nn.Linear(512, 8)

    def online(self, view: Tensor, rows: Rows) -> Tensor:
        return torch.as_tensor(self.narrow(self.backbone(view)))


# Loss.


class FalselyUncoupled(SimCLR):
    coupled = False


class WeightNotStated(Uncoupled):
    def loss(self, batch: Batch) -> Loss:
        total, count = self.total(batch)
        return Loss(total / count.clamp_min(1))


class WeightOfACoupledLoss(SimCLR):
    def loss(self, batch: Batch) -> Loss:
        return Loss(super().loss(batch).value, weight=3.0)


class SumsOfEachVolume(SimCLR):
    def loss(self, batch: Batch) -> Loss:
        return Loss(super().loss(batch).value, sums={"centre": batch.online[0].detach()})


class LossDrawsFromNumpy(SimCLR):
    def loss(self, batch: Batch) -> Loss:
        return Loss(super().loss(batch).value * (1 + float(np.random.rand())))


class LossOfTheClock(SimCLR):
    def loss(self, batch: Batch) -> Loss:
        return Loss(super().loss(batch).value * (1 + float(np.random.default_rng().random())))


class LossOfOneVolumeLess(SimCLR):
    def loss(self, batch: Batch) -> Loss:
        return Loss(super().loss(batch).value, rows={"rows": batch.online[0][1:]})


class LossOfManyOnly(SimCLR):
    def loss(self, batch: Batch) -> Loss:
        return Loss(super().loss(batch).value / min(len(batch.online[0]) - 2, 1))


class LossIsNone(SimCLR):
    def loss(self, batch: Batch) -> Loss:
        super().loss(batch)
        return None  # type: ignore[return-value]


class LossIsATensor(SimCLR):
    def loss(self, batch: Batch) -> Loss:
        return super().loss(batch).value  # type: ignore[return-value]


class LossIsAVector(SimCLR):
    def loss(self, batch: Batch) -> Loss:
        return Loss((batch.online[0] - batch.online[1]).square().mean(dim=1))


class LossIsDetached(SimCLR):
    def loss(self, batch: Batch) -> Loss:
        return Loss(super().loss(batch).value.detach())


class LossUnpacksThree(SimCLR):
    def loss(self, batch: Batch) -> Loss:
        first, second, _third = batch.online
        return Loss((first - second).square().mean())


class LossOfTheOldContract(SimCLR):
    def loss(self, online: Any, target: Any) -> Loss:  # type: ignore[override]
        return Loss(online[0].mean())


class FailsUnderBfloat16(SimCLR):
    def build(self) -> None:
        super().build()
        self.register_buffer("centre", torch.zeros(6))

    def online(self, view: Tensor, rows: Rows) -> Tensor:
        return self.backbone(view).lerp(self.get_buffer("centre"), 0.1)  # two dtypes under autocast


class OverflowsUnderBfloat16(SimCLR):
    def online(self, view: Tensor, rows: Rows) -> Tensor:
        features = self.backbone(view)
        return features * (1 + 1 / ((features.new_ones(()) + 1e-3) - 1))  # 1.001 is 1 in bfloat16


class DoesNotTrain(SimCLR):
    def loss(self, batch: Batch) -> Loss:
        raise KeyError("projector")


class UnknownLabelsAreAClass(Supervised):
    def loss(self, batch: Batch) -> Loss:
        labels = batch.rows["labels"].to(batch.online[0]).reshape(len(batch.online[0]), -1)
        errors = (self.head(batch.online[0])[:, :1] - labels[:, :1]).square()
        return Loss(errors.mean(), sums={"seen": torch.zeros(3)})

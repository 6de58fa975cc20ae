"""Exactness is measured on what runs: what hides in a backbone, a head or a function is found."""

from __future__ import annotations

import copy
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from ssl3d.backbone import Backbone, BackboneConfig
from ssl3d.engine import Engine
from ssl3d.method import Batch, Card, Features, Kept, Loss, Rows
from ssl3d.recipe import EncoderRecipe, PretrainRecipe
from ssl3d.train.build import build_method
from ssl3d.train.encode import EffectiveBatch
from ssl3d.train.exactness import END, START, Measured, measure, small_views
from ssl3d.train.keyed_draws import KeyedEncoder
from ssl3d.train.toy import RandomSource
from ssl3d_plugins.backbones.tiny import Tiny
from ssl3d_plugins.methods.moco import MoCo, MoCoConfig
from ssl3d_plugins.methods.simclr import SimCLR, SimCLRConfig
from tests.toys import SIZE, NoisyAugment, ToyBackbone

SMALL = SimCLRConfig(hidden_dim=8, projection_dim=5)
SPLIT = Engine(micro_batch=4)


class HandWritten(ToyBackbone):
    """Batch norm without a layer of that name."""

    def forward_features(self, x: Tensor) -> list[Tensor]:
        first, second = super().forward_features(x)
        return [first, (second - second.mean((0, 2, 3, 4), keepdim=True)) / second.std((0, 2, 3, 4), keepdim=True)]


class FunctionalDropout(ToyBackbone):
    def forward_features(self, x: Tensor) -> list[Tensor]:
        first, second = super().forward_features(x)
        return [first, F.dropout(second, 0.5)]


class Depth(ToyBackbone):
    def __init__(self) -> None:
        super().__init__()
        self.depth = StochasticDepth(0.5, "row")

    def forward_features(self, x: Tensor) -> list[Tensor]:
        first, second = super().forward_features(x)
        return [first, first.mean((1, 2, 3, 4), keepdim=True) + self.depth(second)]


class HandWrittenDropout(ToyBackbone):
    def forward_features(self, x: Tensor) -> list[Tensor]:
        first, second = super().forward_features(x)
        return [first, second * (torch.rand(second.shape[:2], dtype=second.dtype) < 0.5)[:, :, None, None, None]]


class SharedDepth(ToyBackbone):
    """Stochastic depth that drops a branch for all volumes of a micro-batch at once."""

    def forward_features(self, x: Tensor) -> list[Tensor]:
        first, second = super().forward_features(x)
        return [first, first.mean((1, 2, 3, 4), keepdim=True) + second * torch.rand((), dtype=second.dtype)]


class Noise(ToyBackbone):
    """Draws that no layer makes, and that cannot be switched off."""

    def forward_features(self, x: Tensor) -> list[Tensor]:
        first, second = super().forward_features(x)
        return [first, second + torch.randn_like(second)]


class NormInOnline(SimCLR):
    """A head with batch norm, called where it sees micro-batches."""

    card: ClassVar[Card] = Card("Norm in online", "batch norm in the wrong place")

    def build(self) -> None:
        super().build()
        self.norm = nn.BatchNorm1d(self.backbone.embed_dim)

    def online(self, view: Tensor, rows: Rows) -> Features:
        return self.norm(self.backbone(view))  # type: ignore[no-any-return]


class GroupsOfFour(SimCLR):
    """Normalises four volumes together, where there are as many."""

    card: ClassVar[Card] = Card("Groups of four", "exact below four volumes")

    def online(self, view: Tensor, rows: Rows) -> Features:
        features: Tensor = self.backbone(view)
        four = len(features) // 4 * 4
        groups = features[:four].unflatten(0, (-1, 4))
        return torch.cat([(groups - groups.mean(1, keepdim=True)).flatten(0, 1), features[four:]])


class LeftOver(SimCLR):
    """Normalises four volumes together, and the rest together: only groups that are cut apart show it."""

    card: ClassVar[Card] = Card("Left over", "exact where micro-batches are multiples of four")

    def online(self, view: Tensor, rows: Rows) -> Features:
        return torch.cat([group - group.mean(0) / 2 for group in self.backbone(view).split(4)])


class Switched(NormInOnline):
    """Batch norm in the wrong place, in a part of the training."""

    on: ClassVar[tuple[float, float]]
    active = False

    def after_step(self, progress: float, kept: Kept) -> None:
        self.active = self.on[0] <= progress < self.on[1]

    def online(self, view: Tensor, rows: Rows) -> Features:
        return super().online(view, rows) if self.active else self.backbone(view)


class Late(Switched):
    card: ClassVar[Card] = Card("Late", "batch norm at the end")
    on = (0.8, 1.0)


class Early(Switched):
    card: ClassVar[Card] = Card("Early", "batch norm at the start")
    on = (0.0, 0.05)


class LateLoss(SimCLR):
    """A loss that is a mean over volumes, until it compares them with each other."""

    card: ClassVar[Card] = Card("Late loss", "couples volumes at the end")
    coupled = False

    def loss(self, batch: Batch) -> Loss:
        first, second = batch.online
        centre = first.mean(0) if batch.progress > 0.8 else 0.0
        return Loss(self.projector.layers[0](first - centre).square().mean() + second.square().mean())


class Counting(SimCLR):
    """A buffer that moves with every call of ``online``."""

    card: ClassVar[Card] = Card("Counting", "moves with micro-batches")

    def build(self) -> None:
        super().build()
        self.register_buffer("calls", torch.zeros(()))

    def online(self, view: Tensor, rows: Rows) -> Features:
        self.get_buffer("calls").add_(1)
        return self.backbone(view)


class NoisyLoss(SimCLR):
    """Draws in the loss, which sees all volumes at once: no split changes them."""

    card: ClassVar[Card] = Card("Noisy loss", "noise where it is harmless")

    def loss(self, batch: Batch) -> Loss:
        noisy = tuple(features + 0.1 * torch.randn_like(features) for features in batch.online)
        return super().loss(Batch(noisy))


def measured(
    backbone: Backbone, kind: type[SimCLR] = SimCLR, engine: Engine = SPLIT, accumulation: str = "exact"
) -> Measured:
    recipe = EncoderRecipe(view_size=SIZE, pretrain=PretrainRecipe.checked({"accumulation": accumulation}))
    return measure(kind(backbone, SMALL, NoisyAugment()), recipe, engine, 16)


@pytest.mark.parametrize(
    ("backbone", "kind", "word"),
    [
        (ToyBackbone, SimCLR, "exact"),
        (lambda: ToyBackbone(BackboneConfig(norm="batch")), SimCLR, "not exact"),
        (HandWritten, SimCLR, "not exact"),
        (ToyBackbone, NormInOnline, "not exact"),
        (ToyBackbone, Counting, "not exact"),
        (ToyBackbone, GroupsOfFour, "not exact"),
        (ToyBackbone, LeftOver, "not exact"),
        (ToyBackbone, Late, "not exact"),
        (ToyBackbone, Early, "not exact"),
        (ToyBackbone, LateLoss, "not exact"),
        (SharedDepth, SimCLR, "not exact"),
        (Noise, SimCLR, "exact up to random layers"),
        (HandWrittenDropout, SimCLR, "exact up to random layers"),
        (lambda: ToyBackbone(dropout=0.5), SimCLR, "exact up to random layers"),
        (FunctionalDropout, SimCLR, "exact up to random layers"),
        (Depth, SimCLR, "exact up to random layers"),
        (ToyBackbone, NoisyLoss, "exact"),
    ],
)
def test_the_word_follows_the_gradient(backbone: type[ToyBackbone], kind: type[SimCLR], word: str) -> None:
    found = measured(backbone(), kind)
    assert found.exactness == word
    assert found.error is not None
    if word != "not exact":
        assert found.error < 1e-9
    elif kind is not Counting:  # whose gradient is right
        assert found.error > 1e-5  # ten thousand times what the exact ones are allowed


def test_plain_accumulation_is_called_plain_with_its_error() -> None:
    found = measured(ToyBackbone(), accumulation="plain")
    assert found.exactness == "plain"
    assert found.error is not None
    assert found.error > 1e-2


@pytest.mark.parametrize("backbone", [HandWritten, ToyBackbone])
def test_a_batch_that_is_not_split_is_exact_by_definition(backbone: type[ToyBackbone]) -> None:
    assert measured(backbone(), engine=Engine(micro_batch=16)) == Measured("exact", None)
    assert measured(backbone(), engine=Engine(micro_batch=16, processes=2)).error is not None


class Wrong(MoCo):
    """Loses half of the queue's keys, which only a loss with negatives notices."""

    card: ClassVar[Card] = Card("Wrong", "detaches by micro-batch")

    def online(self, view: Tensor, rows: Rows) -> Features:
        features = self.backbone(view)
        return features - features.mean(0, keepdim=True).detach()


@pytest.mark.parametrize(("kind", "word"), [(MoCo, "exact"), (Wrong, "not exact")])
def test_a_loss_that_is_zero_without_a_queue_is_measured_with_one(kind: type[MoCo], word: str) -> None:
    method = kind(ToyBackbone(), MoCoConfig(hidden_dim=8, projection_dim=5, queue_size=40), NoisyAugment())
    recipe = EncoderRecipe(view_size=SIZE, pretrain=PretrainRecipe())
    assert measure(method, recipe, SPLIT, 16).exactness == word
    assert int(method.queue.filled) == 0


def test_a_measurement_changes_nothing() -> None:
    method = NormInOnline(ToyBackbone(BackboneConfig(norm="batch")), SMALL, NoisyAugment())
    before, state = copy.deepcopy(method.state_dict()), torch.get_rng_state()
    measure(method, EncoderRecipe(view_size=SIZE, pretrain=PretrainRecipe()), SPLIT, 16)
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None and parameter.dtype == torch.float32 for parameter in method.parameters())


@pytest.mark.parametrize("name", ["simclr", "moco"])
def test_a_shipped_method_is_measured_on_a_small_view(name: str) -> None:
    recipe = EncoderRecipe(method=name, backbone="tiny", view_size=(12, 40, 40), pretrain=PretrainRecipe())
    method = build_method(recipe)
    assert small_views(method, recipe.view_size)[0] < method.backbone.min_size
    found = measure(method, recipe, SPLIT, 16)
    assert found.exactness == "exact"
    assert found.error is not None
    assert found.error < 1e-12


def test_small_views_go_up_to_twice_what_the_backbone_needs_but_not_beyond_those_of_the_run() -> None:
    method = SimCLR(Tiny(), SMALL)
    assert small_views(method, (16, 112, 112)) == [(2, 8, 8), (4, 16, 16), (8, 32, 32)]
    assert small_views(method, (6, 32, 20)) == [(2, 8, 8), (4, 16, 16)]


class Listening(SimCLR):
    """Notes its steps."""

    card: ClassVar[Card] = Card("Listening", "notes its steps")
    everywhere: ClassVar[list[float]] = []

    def build(self) -> None:
        super().build()
        self.steps: list[float] = []

    def after_step(self, progress: float, kept: Kept) -> None:
        self.steps.append(progress)
        self.everywhere.append(progress)


def test_a_copy_takes_steps_at_the_start_and_at_the_end_of_the_training_and_the_method_takes_none() -> None:
    method = Listening(ToyBackbone(), SMALL, NoisyAugment())
    measure(method, EncoderRecipe(view_size=SIZE, pretrain=PretrainRecipe()), SPLIT, 16)
    assert Listening.everywhere == [START.batch.progress, END.batch.progress]
    assert method.steps == []


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_random_draws_of_a_volume_do_not_depend_on_its_micro_batch_where_they_are_keyed(dropout: float) -> None:
    method = SimCLR(ToyBackbone(dropout=dropout), SMALL, NoisyAugment()).double().train()
    encoder, batch = KeyedEncoder(method, RandomSource(SIZE)), EffectiveBatch(range(5), 1)
    whole, part = (encoder.features(batch, part).online[0] for part in (range(5), range(2, 4)))
    torch.testing.assert_close(whole[2:4], part)
    encoder.forget()
    again = encoder.features(EffectiveBatch(range(5), 2), range(5)).online[0]
    assert not torch.allclose(whole, again)  # other views, and other draws
    assert len(set(whole[:, 0].tolist())) == 5

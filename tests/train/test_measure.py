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
from ssl3d.train.exactness import Measured, measure, small_views
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
        (Noise, SimCLR, "not exact"),
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
        assert found.error > 1e-2


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


def test_a_method_that_moves_in_after_step_is_not_moved_by_a_measurement() -> None:
    seen: list[Kept] = []

    class Listening(SimCLR):
        card: ClassVar[Card] = Card("Listening", "notes its steps")

        def after_step(self, progress: float, kept: Kept) -> None:
            seen.append(kept)

    assert measured(ToyBackbone(), Listening).exactness == "exact"
    assert not seen  # only a queue that is empty is filled, in a copy

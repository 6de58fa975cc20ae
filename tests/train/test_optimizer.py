"""Optimisers over parameter groups: what decays, what is adapted, multiplied, frozen and clipped."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from ssl3d.errors import PluginError
from ssl3d.method import Batch, Card, Config, Loss, Method, ParameterGroup, split_by_decay
from ssl3d.recipe import PretrainRecipe
from ssl3d.train.optimizer import build_optimizer, clip_gradient, prepare_step
from ssl3d.train.schedule import Schedule
from tests.toys import ToyBackbone

OPTIMIZERS = ("adamw", "sgd", "lars")
HEADS = {"conv.weight", "linear.weight"}  # of the net's parameters, those that decay


class Net(Method[Config]):
    """A convolution, norms of both kinds, a linear layer, a token; the backbone is frozen."""

    card: ClassVar[Card] = Card("Net", "layers of every kind")

    def build(self) -> None:
        self.backbone.requires_grad_(False)
        self.conv = nn.Conv3d(1, 3, 3)
        self.norm, self.group = nn.BatchNorm3d(3), nn.GroupNorm(1, 3)
        self.linear = nn.Linear(3, 2)
        self.cls_token = nn.Parameter(torch.ones(1, 1, 3))

    def loss(self, batch: Batch) -> Loss:
        return Loss(batch.online[0].mean())


class Grouped(Net):
    """Names its groups: the linear layer learns at a tenth, the convolution is frozen for half of the training."""

    def parameter_groups(self) -> list[ParameterGroup]:
        decay, exempt = split_by_decay(self, lambda name: not name.startswith(("linear", "conv")))
        return [
            ParameterGroup(decay),
            ParameterGroup(exempt, weight_decay=0.0),
            ParameterGroup(list(self.linear.parameters()), lr=0.1),
            ParameterGroup(list(self.conv.parameters()), frozen_until=0.5),
        ]


def build(kind: type[Net] = Net) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(ToyBackbone())


def moved(
    optimizer: str, weight_decay: float, gradient: float, kind: type[Net] = Net, step: int = 0, **values: Any
) -> dict[str, Tensor]:
    """One step with a constant gradient: how far each trainable parameter moved."""
    net = build(kind)
    recipe = PretrainRecipe.checked(
        {
            **{"optimizer": optimizer, "weight_decay": weight_decay, "lr": 0.1, "lr_scaling": "none"},
            **{"momentum": 0.0, "warmup_epochs": 0.0, "epochs": 10, "batch_size": 4, **values},
        }
    )
    made = build_optimizer(net, recipe)
    trainable = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
    before = {name: parameter.detach().clone() for name, parameter in trainable.items()}
    for parameter in trainable.values():
        parameter.grad = torch.full_like(parameter, gradient)
    prepare_step(made, Schedule.of(recipe, 4), step)
    made.step()
    return {name: parameter.detach() - before[name] for name, parameter in trainable.items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_norms_biases_and_tokens_do_not_decay(optimizer: str) -> None:
    plain, decayed = moved(optimizer, 0.0, 0.1), moved(optimizer, 0.5, 0.1)
    assert {name for name in plain if not torch.equal(plain[name], decayed[name])} == HEADS


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_trainable_parameter_moves_and_no_other_is_in_the_optimiser(optimizer: str) -> None:
    found = moved(optimizer, 1e-4, 0.1)
    assert all(step.any() for step in found.values())
    assert not any(name.startswith("backbone") for name in found)


@pytest.mark.parametrize("weight_decay", [0.0, 1e-6])
def test_lars_adapts_to_weights_and_not_to_norms_and_biases(weight_decay: float) -> None:
    """The step of a weight does not depend on its gradient's length (You et al. 2017); that of a bias does."""
    small, large = moved("lars", weight_decay, 0.1), moved("lars", weight_decay, 10.0)
    for name in small:
        ratio = float(large[name].norm() / small[name].norm())
        assert ratio == pytest.approx(1.0 if name in HEADS else 100.0, rel=1e-3), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_group_has_its_own_learning_rate_and_is_frozen_until_its_share(optimizer: str) -> None:
    plain, early, late = moved(optimizer, 0.0, 0.1), *(moved(optimizer, 0.0, 0.1, Grouped, step) for step in (0, 5))
    if optimizer != "lars":  # which adapts the bias too in a group that decays
        torch.testing.assert_close(early["linear.weight"], 0.1 * plain["linear.weight"])
        torch.testing.assert_close(early["linear.bias"], 0.1 * plain["linear.bias"])
    torch.testing.assert_close(early["norm.weight"], plain["norm.weight"])
    assert not early["conv.weight"].any()
    assert not early["conv.bias"].any()
    assert late["conv.weight"].any()


def test_weight_decay_of_a_step_follows_the_schedule() -> None:
    early, late = (
        moved("sgd", 0.0, 0.0, step=step, weight_decay_end=0.5, lr_scaling="none")["linear.weight"] for step in (0, 9)
    )
    assert not early.any()  # the decay is 0 at first, and so is the gradient
    assert late.any()


def test_the_whole_gradient_is_clipped_to_a_norm_and_keeps_its_direction() -> None:
    net = build()
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 2.0)
    clip_gradient(net, 1.5)
    found = torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])
    assert float(found.norm()) == pytest.approx(1.5, rel=1e-5)
    assert bool((found == found[0]).all())
    clip_gradient(net, 9.0)
    assert float(found.norm()) == pytest.approx(1.5, rel=1e-5)


class Twice(Net):
    def parameter_groups(self) -> list[ParameterGroup]:
        return [*super().parameter_groups(), ParameterGroup([self.cls_token])]


class Missing(Net):
    def parameter_groups(self) -> list[ParameterGroup]:
        return super().parameter_groups()[:1]


class Strange(Net):
    def parameter_groups(self) -> list[ParameterGroup]:
        return [*super().parameter_groups(), ParameterGroup(list(self.backbone.parameters())[:1])]


class Frozen(Net):
    def build(self) -> None:
        super().build()
        self.requires_grad_(False)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Twice, "holds a parameter twice"),
        (Missing, "leaves out 'cls_token'"),
        (Strange, "that is not trainable"),
        (Frozen, "has no trainable parameter"),
    ],
)
def test_groups_that_are_wrong_are_one_sentence(kind: type[Net], words: str) -> None:
    with pytest.raises(PluginError, match=words) as caught:
        build_optimizer(build(kind), PretrainRecipe())
    assert "\n" not in str(caught.value)

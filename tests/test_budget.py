"""Momentum and queues follow the length of the training; what does not fit is said."""

import math
from typing import Any

import pytest

from ssl3d.budget import Budget, remarks, resolved, rules
from ssl3d.errors import RecipeError
from ssl3d.parts.momentum import (
    NEGLIGIBLE,
    AutoLinearMomentum,
    AutoMomentum,
    cosine_momentum,
    initial_weight,
    linear_initial_weight,
    linear_momentum,
)
from ssl3d.parts.queue import OFTEN, AutoQueue
from ssl3d.recipe import EncoderRecipe, PretrainRecipe
from ssl3d.testing.toys import ToyBackbone
from ssl3d.train.build import build_method, misfits
from ssl3d_plugins.methods.byol import BYOL, BYOLConfig, BYOLMed3D
from ssl3d_plugins.methods.densecl import DenseCL
from ssl3d_plugins.methods.dino import DINO
from ssl3d_plugins.methods.dinov2 import DINOv2
from ssl3d_plugins.methods.ijepa import IJEPA
from ssl3d_plugins.methods.moco import MoCo, MoCoConfig
from ssl3d_plugins.methods.moco_v3 import MoCoV3
from ssl3d_plugins.methods.nnclr import NNCLR
from ssl3d_plugins.methods.swav import SwAV

MRNET = Budget(steps=1800, volumes=1130, batch_size=64)
DEMO = Budget(steps=90, volumes=160, batch_size=64)


@pytest.mark.parametrize("steps", [1, 2, 7, 90, 1800, 31_000])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99, 0.996])
def test_the_initial_weight_is_the_product_of_the_momentum_of_all_steps(momentum: float, steps: int) -> None:
    product = math.prod(cosine_momentum(momentum, step / steps) for step in range(steps))
    assert initial_weight(momentum, steps, cosine=True) == pytest.approx(product, rel=0.05)
    assert initial_weight(momentum, steps, cosine=False) == pytest.approx(math.prod([momentum] * steps), abs=1e-12)
    product = math.prod(linear_momentum(momentum, step / steps) for step in range(steps))
    assert linear_initial_weight(momentum, steps) == pytest.approx(product, rel=0.05)


@pytest.mark.parametrize("steps", [1, 2, 5, 30, 90, 1800, 20_000, 1_000_000])
@pytest.mark.parametrize(
    "rule", [AutoMomentum(0.996), AutoMomentum(0.99), AutoMomentum(0.999, cosine=False), AutoLinearMomentum(0.996)]
)
def test_auto_momentum_is_the_largest_that_leaves_a_negligible_weight(rule: AutoMomentum, steps: int) -> None:
    momentum = rule.auto(Budget(steps=steps))
    left = rule.left(momentum, steps)
    assert 0 <= momentum <= rule.paper
    assert left <= NEGLIGIBLE * (1 + 1e-9)
    assert not rule.misfit(momentum, Budget(steps=steps))
    if 0 < momentum < rule.paper and steps > 20:
        assert left > 0.8 * NEGLIGIBLE


def test_the_papers_own_trainings_keep_the_papers_momentum() -> None:
    trainings = {  # steps of 1.28 million images: MoCo v2, 200 epochs of 256; BYOL, 300 of 4096; DINO, 100 of 1024
        AutoMomentum(0.999, cosine=False): 1_000_800,
        AutoMomentum(0.99): 94_000,
        AutoMomentum(0.97): 12_500,
        AutoMomentum(0.996): 125_000,
        AutoLinearMomentum(0.996): 187_500,  # I-JEPA, 300 of 2048
    }
    for rule, steps in trainings.items():
        assert rule.auto(Budget(steps=steps)) == rule.paper


def test_the_figures_that_made_the_rule_necessary() -> None:
    assert initial_weight(0.999, 1800, cosine=False) == pytest.approx(0.165, abs=0.001)  # MoCo on MRNet
    assert initial_weight(0.996, 100, cosine=True) > 0.8  # BYOL on the demo


@pytest.mark.parametrize(
    ("budget", "size"),
    [
        (Budget(), 65536),
        (MRNET, 512),  # 8 effective batches, of 565
        (DEMO, 64),
        (Budget(steps=10, volumes=12, batch_size=12), 12),  # one effective batch is the least
    ],
)
def test_an_auto_queue_holds_at_most_half_the_corpus_in_whole_batches(budget: Budget, size: int) -> None:
    assert AutoQueue(65536).auto(budget) == size
    assert not AutoQueue(65536).misfit(size, budget)


def test_a_queue_counts_as_full_of_what_the_training_pushes() -> None:
    assert "58 times" in AutoQueue(65536).misfit(65536, Budget(steps=1800, volumes=1130, batch_size=64))
    short = Budget(steps=OFTEN, volumes=64, batch_size=64)
    assert not AutoQueue(65536).misfit(65536, short)


def test_remarks_name_what_auto_chose_and_what_does_not_fit() -> None:
    assert list(remarks(MoCoConfig(), Budget())) == []
    assert list(remarks(MoCoConfig(), MRNET)) == [
        "queue_size = 512 (auto; 65536 in the paper)",
        "momentum = 0.99744 (auto; 0.999 in the paper)",
    ]
    queue, momentum = remarks(MoCoConfig(queue_size=65536, momentum=0.999), MRNET)
    assert queue == "queue_size = 65536 holds each of the 1130 volumes about 58 times; 'auto' would be 512"
    assert momentum.startswith("momentum = 0.999 leaves 17% of the initial weights in the momentum encoder after 1800")
    assert not list(remarks(MoCoConfig(queue_size=100, momentum=0.5), MRNET))


@pytest.mark.parametrize("kind", [BYOL, MoCo, MoCoV3, DINO, DINOv2, IJEPA, DenseCL, NNCLR, SwAV])
def test_first_party_momenta_and_queues_are_auto_and_say_so_on_the_card(kind: type[Any]) -> None:
    names = {"momentum", "queue_size"} & set(kind.Config.model_fields)
    assert names == set(rules(kind.Config))
    assert all(kind.Config.model_fields[name].default == "auto" for name in names)
    assert sum("(auto)" in text for text in kind.card.departures) == len(names)


def test_the_reproduction_of_byolmed3d_keeps_its_number_and_is_told() -> None:
    assert BYOLMed3D(ToyBackbone(), budget=DEMO).resolved == {"momentum": 0.996}
    assert "leaves 83%" in next(remarks(BYOLMed3D.Config(), DEMO))


def test_a_method_is_built_with_the_values_of_its_corpus() -> None:
    recipe = EncoderRecipe(method="moco", pretrain=PretrainRecipe(epochs=30), method_config={"hidden_dim": 8})
    built = build_method(recipe, volumes=160)
    assert len(built.queue.rows) == built.resolved["queue_size"] == 64
    assert built.resolved["momentum"] == pytest.approx(0.95, abs=0.001)
    assert len(build_method(recipe).queue.rows) == 65536


def test_an_effective_batch_larger_than_the_corpus_is_said() -> None:
    recipe = EncoderRecipe(method="simclr", pretrain=PretrainRecipe(batch_size=64))
    assert misfits(recipe, 40) == ["the effective batch is 40, all training volumes: fewer than 64"]
    assert misfits(recipe, 640) == []


def test_numbers_and_auto_are_accepted_and_anything_else_is_refused() -> None:
    assert resolved(BYOLConfig.checked({"momentum": 0.5}), DEMO) == {"momentum": 0.5}
    assert resolved(BYOLConfig.checked({"momentum": "auto"}), DEMO)["momentum"] < 0.996
    with pytest.raises(RecipeError, match="momentum = 'fast'"):
        BYOLConfig.checked({"momentum": "fast"})
    with pytest.raises(RecipeError, match=r"momentum = 1.5: input should be less than or equal to 1"):
        BYOLConfig.checked({"momentum": 1.5})

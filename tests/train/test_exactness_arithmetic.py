"""Exact accumulation in float32 and bf16, on volumes that differ as real ones do."""

from __future__ import annotations

import pytest
from torch import nn

from benchmarks.equivalence import Knees, native_kernels, relative
from ssl3d.method import AnyMethod
from ssl3d.recipe import EncoderRecipe
from ssl3d.testing.modules import bfloat16
from ssl3d.train.build import build_method, method_class
from ssl3d.train.encode import EffectiveBatch
from tests.train.test_exactness import METHODS, gradient, train

every_loss = pytest.mark.parametrize("name", {method_class(name).loss: name for name in METHODS}.values())


VOLUMES = 8


@pytest.fixture(scope="module")
def knees() -> Knees:
    return Knees(VOLUMES)


def build_tiny(name: str, knees: Knees, smooth: bool) -> AnyMethod:
    """A method on the tiny backbone, two optimiser steps from its start; ``smooth``: with GELU for ReLU."""
    narrow = {"hidden_dim": 512, "queue_size": 1024}
    recipe = EncoderRecipe(
        method=name,
        method_config={key: value for key, value in narrow.items() if key in method_class(name).Config.model_fields},
        backbone="tiny",
        backbone_config={"norm": "group"},
        view_size=(4, 16, 18),
    )
    method = build_method(recipe).train()
    if smooth:
        for parent in list(method.modules()):
            for child, layer in list(parent.named_children()):
                if isinstance(layer, nn.ReLU):
                    setattr(parent, child, nn.GELU())
    train(method, range(2), knees, VOLUMES)
    return method


@every_loss
def test_float32_agrees_to_1e_5(name: str, knees: Knees) -> None:
    """A micro-batch of one takes other convolution kernels, so features differ in their last digits; see below."""
    method = build_tiny(name, knees, smooth=False)
    for step in range(100, 103):
        batch = EffectiveBatch(range(8), step)
        whole, _ = gradient(method, 8, batch, knees)
        for micro_batch in (4, 2):
            assert relative(gradient(method, micro_batch, batch, knees)[0], whole) < 1e-5
        assert relative(gradient(method, 1, batch, knees)[0], whole) < 5e-2  # where a ReLU's input changes its sign


@every_loss
def test_float32_agrees_to_1e_5_at_micro_batches_of_one_where_no_activation_has_a_kink(name: str, knees: Knees) -> None:
    """The same networks with GELU for ReLU: so nothing but a ReLU's jump from 0 to 1 is behind larger errors."""
    method = build_tiny(name, knees, smooth=True)
    for step in range(100, 104):
        batch = EffectiveBatch(range(8), step)
        whole, _ = gradient(method, 8, batch, knees)
        assert relative(gradient(method, 1, batch, knees)[0], whole) < 1e-5


@every_loss
def test_bf16_agrees_to_a_few_of_its_own_rounding_errors(name: str, knees: Knees) -> None:
    """Every micro-batch's weight gradient is rounded to 8 bits (2 ** -9): splits agree to that, not to float32."""
    method = build_tiny(name, knees, smooth=False)
    batch = EffectiveBatch(range(8), 100)
    with native_kernels():
        exact, _ = gradient(method, 8, batch, knees)
        whole, _ = gradient(method, 8, batch, knees, autocast=bfloat16)
        for micro_batch in (1, 2, 4):
            split, _ = gradient(method, micro_batch, batch, knees, autocast=bfloat16)
            assert relative(split, whole) < 4 * 2**-8
    assert 1e-3 < relative(whole, exact) < 0.5
    assert float(nn.functional.cosine_similarity(whole, exact, dim=0)) > 0.9

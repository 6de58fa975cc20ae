"""Floating-point operations follow what ``online`` and ``target`` run."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from ssl3d.engine import Engine
from ssl3d.method import AnyMethod, Card, Features, Rows
from ssl3d.recipe import EncoderRecipe, PretrainRecipe
from ssl3d.train.cost import forward_flops, method_flops, pretrain_flops
from ssl3d_plugins.methods.byol import BYOL, BYOLConfig
from ssl3d_plugins.methods.moco import MoCo, MoCoConfig
from ssl3d_plugins.methods.simclr import SimCLR, SimCLRConfig
from tests.toys import SIZE, NoisyAugment, ToyBackbone

WIDTHS = {"hidden_dim": 8, "projection_dim": 5}
METHODS: list[tuple[AnyMethod, int, int]] = [  # views of online and of target
    (SimCLR(ToyBackbone(), SimCLRConfig(**WIDTHS), NoisyAugment()), 2, 0),
    (BYOL(ToyBackbone(), BYOLConfig(**WIDTHS), NoisyAugment()), 2, 2),
    (MoCo(ToyBackbone(), MoCoConfig(**WIDTHS, queue_size=10), NoisyAugment()), 1, 1),
]


class Decoder(SimCLR):
    """A linear layer after the backbone in ``online``; with ``reads``, control flow that depends on a value."""

    card: ClassVar[Card] = Card("Decoder", "more than a backbone")
    reads = False

    def build(self) -> None:
        super().build()
        self.decoder = nn.Linear(self.backbone.embed_dim, 1000)

    def online(self, view: Tensor, rows: Rows) -> Features:
        if self.reads and float(view.sum()) == torch.inf:
            return view
        return self.decoder(self.backbone(view))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("method", "online", "target"), METHODS)
def test_each_view_is_counted_where_it_is_encoded(method: AnyMethod, online: int, target: int) -> None:
    one = forward_flops(method.backbone, SIZE)
    assert method_flops(method, SIZE) == (online * one, target * one)


@pytest.mark.parametrize("reads", [False, True])
def test_layers_beside_the_backbone_count_even_where_numbers_must_be_computed(reads: bool) -> None:
    method = Decoder(ToyBackbone(), SimCLRConfig(**WIDTHS), NoisyAugment())
    method.reads = reads
    one = forward_flops(method.backbone, SIZE)
    assert method_flops(method, SIZE) == (2 * (one + 2 * 6 * 1000), 0)
    assert next(method.parameters()).device.type == "cpu"
    assert method.training


def test_a_pretraining_counts_volumes_passes_and_what_is_encoded_again() -> None:
    method = METHODS[1][0]
    recipe = EncoderRecipe(view_size=SIZE, pretrain=PretrainRecipe(epochs=3, batch_size=8))
    one = forward_flops(method.backbone, SIZE)
    assert pretrain_flops(method, recipe, 16) == 48 * one * (2 * 3 + 2)
    assert pretrain_flops(method, recipe, 16, Engine(micro_batch=2)) == 48 * one * (2 * (3 + 0.75) + 2)

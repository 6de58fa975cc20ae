"""The attentive probe: what mean pooling dilutes, attention finds; nothing else decides what it chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ssl3d.backbone import Backbone
from ssl3d.card import Card
from ssl3d.data.volumes import Volumes
from ssl3d.errors import DataError, RecipeError
from ssl3d.evaluate.features import extract
from ssl3d.evaluate.protocols.attentive import MOST_PLACES, AttentionPooling, Attentive, AttentiveConfig, places
from ssl3d.evaluate.protocols.linear import Linear
from ssl3d.protocol import EncoderProblem, FeatureProblem
from ssl3d.recipe import AugmentRecipe
from ssl3d.task import Task
from tests.evaluate.volumes import CPU

SIZE = (8, 6, 6)
TRAIN, TEST = range(120), range(120, 200)
TASK = Task(name="tear")
LABELS = np.tile([0, 1], 100)


class Voxelwise(Backbone):
    """Every voxel is a place with two features, whose means over a standardised volume are always the same."""

    card: ClassVar[Card] = Card("Voxelwise", "no pooling")
    embed_dim = 2

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(()))

    def forward_features(self, x: Tensor) -> list[Tensor]:
        return [self.factor * torch.cat([x, x.square()], dim=1)]


class Spots:
    """Noise, with one bright voxel, anywhere, in every second volume; a dark one in the others."""

    def volumes(self, indices: Sequence[int], device: torch.device) -> Volumes:
        voxels = []
        for index in indices:
            rng = np.random.default_rng(index)
            volume = rng.standard_normal((1, *SIZE)).astype(np.float32)
            volume.reshape(-1)[rng.integers(volume.size)] = 8.0 if LABELS[index] else -8.0
            voxels.append(torch.from_numpy((volume - volume.mean()) / volume.std()))
        count = len(voxels)
        return Volumes(tuple(voxels), torch.zeros(count), torch.ones(count))


def problem(encoder: Backbone, **changes: object) -> EncoderProblem:
    values: dict[str, object] = {
        "encoder": encoder,
        "source": Spots(),
        "train": TRAIN,
        "test": TEST,
        "train_y": LABELS[:120],
        "task": TASK,
        "patients": np.array([f"p{i}" for i in TRAIN]),
        "augment": AugmentRecipe(),
        "view_size": SIZE,
        "batch_size": 16,
        "device": CPU,
        "folds": 3,
    }
    return EncoderProblem(**{**values, **changes})  # type: ignore[arg-type]  # of the right types


def test_attention_finds_what_the_mean_dilutes() -> None:
    encoder = Voxelwise()
    whole = problem(encoder)
    attentive = Attentive(AttentiveConfig(epochs=8, lr=3e-3)).predict(whole)
    assert roc_auc_score(LABELS[120:], attentive.probabilities[:, 1]) > 0.95
    assert attentive.out_of_fold is not None
    assert roc_auc_score(LABELS[:120], attentive.out_of_fold[:, 1]) > 0.95
    x = {
        name: extract(encoder, whole.source, part, size=SIZE, batch_size=16, device=CPU)["last"]
        for name, part in (("train", TRAIN), ("test", TEST))
    }
    linear = Linear().predict(FeatureProblem(x["train"], whole.train_y, x["test"], TASK, whole.patients, folds=3))
    assert roc_auc_score(LABELS[120:], linear.probabilities[:, 1]) < 0.75


def test_it_starts_as_no_opinion_and_its_weights_are_a_mean() -> None:
    model = AttentionPooling(2, AttentiveConfig(), 3, seed=0)
    assert not model(torch.randn(4, 7, 2)).any()
    model.weight.data.normal_()
    once = torch.randn(4, 1, 2)
    torch.testing.assert_close(model(once), model(once.expand(-1, 9, -1)))  # equal places, whatever the weights
    mixed = torch.randn(4, 7, 2)
    torch.testing.assert_close(model(mixed), model(mixed.flip(1)))  # places have no order


def test_fine_maps_are_averaged_in_the_plane_and_keep_their_slices() -> None:
    found = places(problem(Voxelwise(), view_size=(16, 12, 10)), range(3))
    assert found.shape[0] == 3
    assert found.shape[1] % 16 == 0
    assert MOST_PLACES // 2 < found.shape[1] <= MOST_PLACES


def test_what_is_not_finite_is_one_sentence() -> None:
    broken = Voxelwise()
    broken.factor.data.fill_(torch.nan)
    with pytest.raises(DataError, match="its pretraining has diverged"):
        Attentive().predict(problem(broken))
    with pytest.raises(RecipeError, match=r"lower protocol\.attentive\.lr"):
        Attentive(AttentiveConfig(lr=1e30, epochs=3)).predict(problem(Voxelwise()))

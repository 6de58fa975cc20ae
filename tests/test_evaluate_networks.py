"""Features and fine-tuning: what is done to an encoder, and what must not be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ssl3d.backbone import Backbone
from ssl3d.card import Card
from ssl3d.data.augment import Augment, whole
from ssl3d.data.volumes import Volumes
from ssl3d.errors import DataError, RecipeError
from ssl3d.evaluate.features import extract
from ssl3d.evaluate.metrics import score
from ssl3d.evaluate.protocols.classifier import Classifier, Tuning, epoch_order, predict
from ssl3d.evaluate.protocols.crops import judged_views, places
from ssl3d.evaluate.protocols.finetune import finetune, light
from ssl3d.protocol import Prediction
from ssl3d.recipe import AugmentRecipe, EvaluateRecipe

CPU = torch.device("cpu")
SIZE = (3, 8, 10)
N = 36


class Small(Backbone):
    """A convolution with batch norm (running statistics to spoil) and dropout (random state to move)."""

    card = Card("small", "for tests")
    embed_dim = 5

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.conv = nn.Conv3d(1, 5, 3, padding=1)
        self.norm = nn.BatchNorm3d(5)
        self.drop = nn.Dropout(0.1)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        return [self.drop(self.norm(self.conv(x)).relu())]


class Stripes:
    """Volumes of unequal depth; class 1 has vertical stripes where class 0 has horizontal ones. Counts what is read."""

    def __init__(self) -> None:
        self.labels = np.arange(N) % 2
        self.read: set[int] = set()
        rng = np.random.default_rng(0)
        self.voxels = []
        for i, label in enumerate(self.labels):
            wave = (np.arange(12)[:, None] if label else np.arange(14)[None]) // 3 % 2 * 120
            noise = rng.integers(0, 90, (1, 4 + i % 3, 12, 14))
            self.voxels.append(torch.from_numpy((wave + noise).astype(np.uint8)))

    def volumes(self, indices: Sequence[int], device: torch.device) -> Volumes:
        self.read |= set(indices)
        voxels = tuple(self.voxels[i].to(device) for i in indices)
        flat = [v.float() for v in voxels]
        return Volumes(voxels, torch.stack([v.mean() for v in flat]), torch.stack([v.std() for v in flat]))


TRAIN, TEST = list(range(24)), list(range(24, N))
RECIPE = EvaluateRecipe(finetune_epochs=8, finetune_batch_size=6, finetune_lr=(0.02,), inner_folds=3, batch_size=7)


def tuned(
    source: Stripes, encoder: Backbone | None = None, recipe: EvaluateRecipe = RECIPE, seed: int = 0
) -> Prediction:
    augment = Augment(light(AugmentRecipe(rotate=0)), SIZE)
    labels = source.labels[TRAIN]
    return finetune(
        encoder or Small(), source, TRAIN, TEST, labels, recipe=recipe, augment=augment, device=CPU, seed=seed
    )


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_features_are_those_of_whole_volumes_whatever_the_batch() -> None:
    source, encoder = Stripes(), Small()
    found = [extract(encoder, source, TRAIN, size=SIZE, batch_size=b, device=CPU) for b in (1, 7, 24)]
    assert (found[0].shape, found[0].dtype) == ((24, 5), np.float32)
    encoder.eval()
    with torch.no_grad():
        expected = encoder(whole(source.volumes(TRAIN, CPU), SIZE)).numpy()
    for features in found:
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


def test_extraction_leaves_the_encoder_and_the_random_state_as_they_were() -> None:
    encoder = Small().train()
    encoder.norm.eval()  # a part that is frozen stays so
    before, state = snapshot(encoder), torch.get_rng_state()
    extract(encoder, Stripes(), TEST, size=SIZE, batch_size=4, device=CPU)
    assert (encoder.training, encoder.conv.training, encoder.norm.training) == (True, True, False)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_extraction_in_lower_precision_is_close_and_float32() -> None:
    source, encoder = Stripes(), Small()
    full = extract(encoder, source, TEST, size=SIZE, batch_size=4, device=CPU)
    half = extract(encoder, source, TEST, size=SIZE, batch_size=4, device=CPU, autocast=torch.bfloat16)
    assert half.dtype == np.float32
    assert not np.array_equal(half, full)
    np.testing.assert_allclose(half, full, atol=0.05)


def test_extraction_tells_its_progress() -> None:
    told: list[tuple[int, int]] = []
    extract(
        Small(), Stripes(), TEST, size=SIZE, batch_size=5, device=CPU, progress=lambda done, n: told.append((done, n))
    )
    assert told == [(5, 12), (10, 12), (12, 12)]


def test_fine_tuning_learns_and_says_what_it_chose() -> None:
    source = Stripes()
    found = tuned(source)
    assert found.probabilities.shape == (12, 2)
    assert found.threshold is not None
    right = (found.probabilities[:, 1] >= found.threshold) == source.labels[TEST]
    assert right.mean() > 0.9
    # One epoch already orders the few cases held out; of equal orders, the better log loss decides.
    assert 2 <= found.chosen["epochs"] <= 8


def test_fine_tuning_leaves_the_encoder_and_the_random_state_as_they_were() -> None:
    encoder = Small()
    before, state, numpy_state = snapshot(encoder), torch.get_rng_state(), str(np.random.get_state())
    tuned(Stripes(), encoder)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert str(np.random.get_state()) == numpy_state


def test_fine_tuning_gives_the_same_bits_again_wherever_the_global_state_is() -> None:
    first = tuned(Stripes())
    with torch.random.fork_rng([]):
        torch.manual_seed(123)
        second = tuned(Stripes())
    assert np.array_equal(first.probabilities, second.probabilities)
    assert (first.threshold, first.chosen) == (second.threshold, second.chosen)
    assert not np.array_equal(first.probabilities, tuned(Stripes(), seed=1).probabilities)


def test_fine_tuning_reads_test_volumes_once_and_last() -> None:
    class Watched(Stripes):
        order: list[int]

        def volumes(self, indices: Sequence[int], device: torch.device) -> Volumes:
            self.order = [*getattr(self, "order", []), *indices]
            return super().volumes(indices, device)

    source = Watched()
    tuned(source)
    assert source.order[-len(TEST) :] == TEST
    assert not set(source.order[: -len(TEST)]) & set(TEST)


def test_fine_tuning_chooses_nothing_by_the_test_set() -> None:
    plain, spoiled = Stripes(), Stripes()
    for i in TEST:
        spoiled.voxels[i] = torch.flip(spoiled.voxels[i], [2]) // 3
    a, b = tuned(plain), tuned(spoiled)
    assert (a.threshold, a.chosen) == (b.threshold, b.chosen)
    assert not np.array_equal(a.probabilities, b.probabilities)


def test_a_class_of_one_case_trains_for_all_epochs_and_says_so() -> None:
    source = Stripes()
    source.labels = np.where(np.arange(N) == 3, 1, 0)
    found = tuned(source, recipe=RECIPE.model_copy(update={"finetune_epochs": 2}))
    assert found.chosen["epochs"] == 2
    assert "one training case only" in found.chosen["note"]
    assert found.threshold == 0.5


def test_fine_tuning_refuses_one_class_and_names_a_diverging_rate() -> None:
    source = Stripes()
    source.labels = np.zeros(N, int)
    with pytest.raises(DataError, match="all 24 training cases are of class 0"):
        tuned(source)
    with pytest.raises(RecipeError, match=r"diverged in epoch \d+: lower evaluate\.finetune_lr"):
        tuned(Stripes(), recipe=RECIPE.model_copy(update={"finetune_lr": (1e30,)}))


def test_more_than_two_classes_are_fine_tuned_without_a_threshold() -> None:
    source = Stripes()
    source.labels = np.arange(N) % 3
    found = tuned(source, recipe=RECIPE.model_copy(update={"finetune_epochs": 1}))
    assert found.probabilities.shape == (12, 3)
    assert found.threshold is None


def test_light_augmentation_is_never_stronger_than_the_recipe() -> None:
    strong, none = AugmentRecipe(), AugmentRecipe(crop=(1, 1), aspect=(1, 1), depth=(1, 1), noise=0, gamma=0)
    assert light(strong).crop == (0.8, 1.0)
    assert light(strong).blur == 0
    assert light(none) == none.model_copy(update={"blur": 0.0, "brightness": 0.1, "contrast": 0.1})
    AugmentRecipe.model_validate(light(strong).model_dump())


def test_the_learning_rate_is_chosen_on_volumes_held_out_and_all_trials_are_told() -> None:
    rates = (1e-7, 0.02, 1e30)  # too low to learn anything, good, diverging
    found = tuned(Stripes(), recipe=RECIPE.model_copy(update={"finetune_lr": rates}))
    assert found.chosen["lr"] == 0.02
    assert list(found.chosen["rates"]) == [str(rate) for rate in rates]
    scores = [found.chosen["rates"][str(rate)] for rate in rates]
    assert scores[0] <= scores[1] == found.chosen["score"]  # of equal orders, the better log loss decides
    assert scores[2] is None
    assert found.chosen["note"] == "finetune_lr 1e+30 diverged"
    alone = tuned(Stripes(), recipe=RECIPE)
    assert (alone.chosen["epochs"], alone.threshold) == (found.chosen["epochs"], found.threshold)
    assert np.array_equal(alone.probabilities, found.probabilities)  # the other trials leave no trace


def test_with_nothing_to_hold_out_the_first_learning_rate_is_taken() -> None:
    source = Stripes()
    source.labels = np.where(np.arange(N) == 3, 1, 0)
    found = tuned(source, recipe=RECIPE.model_copy(update={"finetune_lr": (0.01, 0.02), "finetune_epochs": 1}))
    assert found.chosen["lr"] == 0.01
    assert "rates" not in found.chosen


def test_crops_of_a_test_volume_are_at_fixed_places_spread_over_it() -> None:
    ramp = torch.arange(20.0)[:, None, None] + 100 * torch.arange(30.0)[:, None] + 10000 * torch.arange(40.0)
    volumes = Volumes((ramp[None],), torch.zeros(1), torch.ones(1))
    views = list(judged_views(volumes, (10, 15, 20), 5))
    assert torch.equal(views[0], whole(volumes, (10, 15, 20)))
    middles = torch.stack([view[0, 0, 5, 7, 10] for view in views[1:]])
    depth, row, column = middles % 100, middles // 100 % 100, middles // 10000
    assert (depth.diff() > 0).all()  # from the first slices to the last
    assert len(set(zip(row.tolist(), column.tolist(), strict=True))) == 4  # each in a corner of its own
    again = list(judged_views(volumes, (10, 15, 20), 5))
    assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))


@pytest.mark.parametrize("count", [1, 2, 3, 6, 11])
def test_crops_keep_the_same_share_and_leave_out_either_end_of_the_depth(count: int) -> None:
    for view in places(count):
        assert (view.height, view.width, view.depth) == (0.9, 0.9, 0.9)
        assert 0 < view.start < 0.1
    assert sum(view.start for view in places(count)) == pytest.approx(0.05 * count)
    assert len({view.start for view in places(count)}) == count


def test_probabilities_are_the_mean_over_the_views_for_test_and_held_out_volumes_alike() -> None:
    source, size = Stripes(), SIZE
    augment = Augment(light(AugmentRecipe()), size)
    recipe = RECIPE.model_copy(update={"finetune_crops": 3})
    tuning = Tuning(Small(), source, source.labels, 2, recipe, augment, CPU, 0)
    model = Classifier(tuning.encoder, 2)
    torch.nn.init.normal_(model.weight, generator=torch.Generator().manual_seed(0))
    views = list(judged_views(source.volumes(TEST, CPU), size, 3))
    model.eval()
    with torch.no_grad():
        expected = torch.stack([model(view).double().softmax(dim=1) for view in views]).mean(dim=0)
    np.testing.assert_allclose(predict(tuning, model, TEST), expected.numpy(), rtol=1e-4)
    one = predict(replace(tuning, recipe=RECIPE.model_copy(update={"finetune_crops": 1})), model, TEST)
    assert not np.allclose(one, expected.numpy())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=4), st.integers(0, 1000), st.integers(0, 50))
def test_balanced_draws_show_every_class_equally_often_in_as_many_steps(
    sizes: list[int], seed: int, epoch: int
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    order = epoch_order(labels, [seed, epoch], balanced=True)
    assert len(order) == len(labels)
    drawn = np.bincount(labels[order], minlength=len(sizes))
    assert drawn.max() - drawn.min() <= 1
    for label in range(len(sizes)):
        times = np.bincount(order, minlength=len(labels))[labels == label]
        assert times.max() - times.min() <= 1
    assert np.array_equal(order, epoch_order(labels, [seed, epoch], balanced=True))
    assert sorted(epoch_order(labels, [seed, epoch], balanced=False)) == list(range(len(labels)))


def test_every_way_of_balancing_learns_rare_cases_and_they_differ() -> None:
    source = Stripes()
    rare = np.arange(N) % 4 == 1
    for i in range(N):
        if source.labels[i] and not rare[i]:  # these become class 0: its stripes, too
            source.voxels[i] = source.voxels[i - 1].clone()
    source.labels = rare.astype(int)
    found = [
        tuned(source, recipe=RECIPE.model_copy(update={"finetune_balance": balance})).probabilities[:, 1]
        for balance in ("weights", "sampling", "none")
    ]
    for probabilities in found:
        assert score(source.labels[TEST], np.stack([1 - probabilities, probabilities], 1), 0.5).metrics["auc"] == 1
    assert not np.array_equal(found[0], found[1])
    # Unbalanced, the rare class is thought less likely.
    assert found[2].mean() < min(found[0].mean(), found[1].mean())

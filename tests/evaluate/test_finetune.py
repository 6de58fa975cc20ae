"""Fine-tuning: what it learns and chooses, and what stays as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ssl3d.backbone import Backbone
from ssl3d.data.augment import Augment, whole
from ssl3d.data.volumes import Volumes
from ssl3d.errors import DataError, RecipeError
from ssl3d.evaluate.protocols import finetune
from ssl3d.evaluate.protocols.crops import evaluation_views, fixed_crops
from ssl3d.evaluate.protocols.finetune import Finetune, FinetuneConfig, light
from ssl3d.evaluate.protocols.objective import Objective
from ssl3d.evaluate.protocols.training import Model, Setup, epoch_order, predict
from ssl3d.protocol import EncoderProblem, Prediction
from ssl3d.recipe import AugmentRecipe
from tests.evaluate.problems import singles, task_of
from tests.evaluate.volumes import CPU, SIZE, TEST, TRAIN, N, Small, Stripes, snapshot

CONFIG = FinetuneConfig(epochs=8, batch_size=6, lr=(0.02,))


def problem_of(
    source: Stripes, encoder: Backbone | None = None, seed: int = 0, patients: np.ndarray | None = None
) -> EncoderProblem:
    return EncoderProblem(
        encoder=encoder or Small(),
        source=source,
        train=TRAIN,
        test=TEST,
        train_y=source.labels[TRAIN],
        task=task_of(max(2, int(source.labels.max()) + 1)),
        patients=singles(len(TRAIN)) if patients is None else patients,
        augment=AugmentRecipe(rotate=0),
        view_size=SIZE,
        batch_size=7,
        device=CPU,
        folds=3,
        seed=seed,
    )


def tuned(
    source: Stripes, encoder: Backbone | None = None, config: FinetuneConfig = CONFIG, seed: int = 0
) -> Prediction:
    return Finetune(config).predict(problem_of(source, encoder, seed))


def but(**changes: object) -> FinetuneConfig:
    """The settings of these tests, but for some."""
    return CONFIG.model_copy(update=changes)


def test_fine_tuning_learns_and_reports_what_it_chose() -> None:
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
    source = Stripes()
    tuned(source)
    assert source.read[-len(TEST) :] == TEST
    assert not set(source.read[: -len(TEST)]) & set(TEST)


def test_held_out_volumes_are_of_patients_that_the_trial_never_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[set[int]] = []
    predicted: list[set[int]] = []
    real_fit, real_predict = finetune.train_epochs, finetune.predict

    def watched_fit(setup: Setup, model: Model, cases: np.ndarray, lr: float, count: int) -> Iterator[int]:
        fitted.append(set(cases.tolist()))
        return real_fit(setup, model, cases, lr, count)

    def watched_predict(setup: Setup, model: Model, volumes: Sequence[int]) -> np.ndarray:
        predicted.append(set(volumes))
        return real_predict(setup, model, volumes)

    monkeypatch.setattr(finetune, "train_epochs", watched_fit)
    monkeypatch.setattr(finetune, "predict", watched_predict)
    patients = np.repeat(singles(8), 3)
    found = Finetune(but(epochs=1)).predict(problem_of(Stripes(), patients=patients))
    trial, final = fitted
    assert predicted == [set(TRAIN) - trial, set(TEST)]  # volume numbers of TRAIN are those of its cases
    assert final == set(TRAIN)
    assert not set(patients[sorted(trial)]) & set(patients[sorted(predicted[0])])
    assert found.chosen["held_out"] == len(predicted[0])
    # Without knowledge of patients some of them are on both sides: what is looked for above would be found.
    fitted.clear()
    predicted.clear()
    tuned(Stripes(), config=but(epochs=1))
    assert set(patients[sorted(fitted[0])]) & set(patients[sorted(predicted[0])])


def test_progress_counts_the_epochs_of_trials_and_of_the_final_training() -> None:
    seen: list[tuple[int, int]] = []
    problem = replace(problem_of(Stripes()), progress=lambda done, total: seen.append((done, total)))
    found = Finetune(but(epochs=2, lr=(0.01, 0.02))).predict(problem)
    last = 4 + found.chosen["epochs"]
    assert seen[:4] == [(1, 6), (2, 6), (3, 6), (4, 6)]
    assert seen[4:] == [(done, last) for done in range(5, last + 1)]


def test_fine_tuning_chooses_nothing_by_the_test_set() -> None:
    plain, spoiled = Stripes(), Stripes()
    for i in TEST:
        spoiled.voxels[i] = torch.flip(spoiled.voxels[i], [2]) // 3
    a, b = tuned(plain), tuned(spoiled)
    assert (a.threshold, a.chosen) == (b.threshold, b.chosen)
    assert not np.array_equal(a.probabilities, b.probabilities)


def test_a_class_of_one_case_trains_for_all_epochs_and_is_reported() -> None:
    source = Stripes()
    source.labels = np.where(np.arange(N) == 3, 1, 0)
    found = tuned(source, config=but(epochs=2))
    assert found.chosen["epochs"] == 2
    assert "nothing could be held out" in found.chosen["note"]
    assert found.threshold == 1 / 24  # the prevalence


def test_fine_tuning_refuses_one_class_and_names_a_diverging_rate() -> None:
    source = Stripes()
    source.labels = np.zeros(N, int)
    with pytest.raises(DataError, match="all 24 training cases of 'tear' are of class 'c0'"):
        tuned(source)
    with pytest.raises(RecipeError, match=r"diverged in epoch \d+: lower protocol\.finetune\.lr"):
        tuned(Stripes(), config=but(lr=(1e30,)))


def test_more_than_two_classes_are_fine_tuned_without_a_threshold() -> None:
    source = Stripes()
    source.labels = np.arange(N) % 3
    found = tuned(source, config=but(epochs=1))
    assert found.probabilities.shape == (12, 3)
    assert found.threshold is None


def test_light_augmentation_is_never_stronger_than_the_recipe() -> None:
    strong, none = AugmentRecipe(), AugmentRecipe(crop=(1, 1), aspect=(1, 1), depth=(1, 1), noise=0, gamma=0)
    assert light(strong).crop == (0.8, 1.0)
    assert light(strong).blur == 0
    assert light(none) == none.model_copy(update={"blur": 0.0, "brightness": 0.1, "contrast": 0.1})
    AugmentRecipe.model_validate(light(strong).model_dump())


def test_the_learning_rate_is_chosen_on_volumes_held_out_and_all_trials_are_reported() -> None:
    rates = (1e-7, 0.02, 1e30)  # too low to learn anything, good, diverging
    found = tuned(Stripes(), config=but(lr=rates))
    assert found.chosen["lr"] == 0.02
    assert list(found.chosen["rates"]) == [str(rate) for rate in rates]
    scores = [found.chosen["rates"][str(rate)] for rate in rates]
    assert scores[0] <= scores[1] == found.chosen["score"]  # of equal orders, the better log loss decides
    assert scores[2] is None
    assert found.chosen["note"] == "lr 1e+30 diverged"
    alone = tuned(Stripes(), config=CONFIG)
    assert (alone.chosen["epochs"], alone.threshold) == (found.chosen["epochs"], found.threshold)
    assert np.array_equal(alone.probabilities, found.probabilities)  # the other trials leave no trace


def test_with_nothing_to_hold_out_the_first_learning_rate_is_taken() -> None:
    source = Stripes()
    source.labels = np.where(np.arange(N) == 3, 1, 0)
    found = tuned(source, config=but(lr=(0.01, 0.02), epochs=1))
    assert found.chosen["lr"] == 0.01
    assert "rates" not in found.chosen


def test_crops_of_a_test_volume_are_at_fixed_places_spread_over_it() -> None:
    ramp = torch.arange(20.0)[:, None, None] + 100 * torch.arange(30.0)[:, None] + 10000 * torch.arange(40.0)
    volumes = Volumes((ramp[None],), torch.zeros(1), torch.ones(1))
    views = list(evaluation_views(volumes, (10, 15, 20), 5))
    assert torch.equal(views[0], whole(volumes, (10, 15, 20)))
    middles = torch.stack([view[0, 0, 5, 7, 10] for view in views[1:]])
    depth, row, column = middles % 100, middles // 100 % 100, middles // 10000
    assert (depth.diff() > 0).all()  # from the first slices to the last
    assert len(set(zip(row.tolist(), column.tolist(), strict=True))) == 4  # each in a corner of its own
    again = list(evaluation_views(volumes, (10, 15, 20), 5))
    assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))


@pytest.mark.parametrize("count", [1, 2, 3, 6, 11])
def test_crops_keep_the_same_share_and_leave_out_either_end_of_the_depth(count: int) -> None:
    for view in fixed_crops(count):
        assert (view.height, view.width, view.depth) == (0.9, 0.9, 0.9)
        assert 0 < view.start < 0.1
    assert sum(view.start for view in fixed_crops(count)) == pytest.approx(0.05 * count)
    assert len({view.start for view in fixed_crops(count)}) == count


def test_probabilities_are_the_mean_over_the_views_for_test_and_held_out_volumes_alike() -> None:
    source = Stripes()
    setup = Setup(problem_of(source), but(crops=3), Augment(light(AugmentRecipe()), SIZE))
    model = Model(setup.problem.encoder, Objective(task_of(2)))
    torch.nn.init.normal_(model.weight, generator=torch.Generator().manual_seed(0))
    views = list(evaluation_views(source.volumes(TEST, CPU), SIZE, 3))
    model.eval()
    with torch.no_grad():
        expected = torch.stack([model(view).double().softmax(dim=1) for view in views]).mean(dim=0)
    np.testing.assert_allclose(predict(setup, model, TEST), expected.numpy(), rtol=1e-4)
    one = predict(replace(setup, config=but(crops=1)), model, TEST)
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
        tuned(source, config=but(balance=balance)).probabilities[:, 1] for balance in ("weights", "sampling", "none")
    ]
    for probabilities in found:
        assert roc_auc_score(source.labels[TEST], probabilities) == 1
    assert not np.array_equal(found[0], found[1])


# Labels and values


def test_labels_are_fine_tuned_together_with_weights_for_rare_ones() -> None:
    source = Stripes()
    y = np.stack([source.labels[TRAIN], np.arange(24) % 8 == 1, np.ones(24)], axis=1).astype(int)
    problem = replace(problem_of(source), train_y=y, task=task_of(3, "multilabel"))
    found = Finetune(but(balance="weights")).predict(problem)
    p = found.probabilities
    assert p.shape == (12, 3)
    assert found.threshold is None
    assert found.chosen["criterion"] == "mean auc"
    assert roc_auc_score(source.labels[TEST], p[:, 0]) == 1
    assert (p[:, 2] > 0.5).all()


def test_values_are_fine_tuned_on_their_own_scale() -> None:
    source = Stripes()
    truth = 1000.0 + 50 * source.labels
    problem = replace(problem_of(source), train_y=truth[TRAIN], task=task_of(0, "regression"))
    found = Finetune(but(epochs=12)).predict(problem)
    assert found.probabilities.shape == (12, 1)
    assert found.chosen["criterion"] == "negative squared error"
    assert np.abs(found.probabilities[:, 0] - truth[TEST]).mean() < 15  # 25 without learning anything


def test_objectives_are_the_textbook_losses() -> None:
    y, outputs = torch.tensor([0, 1, 1, 1]), torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    weighted = Objective.of(task_of(2), y.numpy(), balance="weights", device=CPU)
    log_p = outputs.log_softmax(dim=1)
    by_hand = -(2.0 * log_p[0, 0] + 2 / 3 * log_p[1:, 1].sum()) / 4  # N / (2 n_k) of each class
    torch.testing.assert_close(weighted.loss(outputs, y), by_hand)
    torch.testing.assert_close(weighted.predict(outputs), outputs.double().softmax(dim=1))

    labels = torch.tensor([[1, 0], [0, 0], [0, 1], [0, 1]])
    several = Objective.of(task_of(2, "multilabel"), labels.numpy(), balance="weights", device=CPU)
    q = outputs.sigmoid()
    weights = torch.where(labels == 1, torch.tensor([2.0, 1.0]), torch.tensor([2 / 3, 1.0]))
    by_hand = -(weights * torch.where(labels == 1, q, 1 - q).log()).mean()
    torch.testing.assert_close(several.loss(outputs, labels), by_hand)

    values = np.array([1.0, 3.0, 5.0, 7.0])
    scaled = Objective.of(task_of(0, "regression"), values, balance="weights", device=CPU)
    assert scaled.predict(torch.zeros(4, 1)).flatten().tolist() == [4.0] * 4  # a head of zeros predicts the mean
    assert float(scaled.loss(torch.zeros(4, 1), torch.from_numpy(values))) == pytest.approx(1.0)

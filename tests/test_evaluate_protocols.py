"""Linear probe, nearest neighbours, and the metrics of what they predict."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from ssl3d.errors import DataError, RecipeError
from ssl3d.evaluate.metrics import calibration_error, score
from ssl3d.evaluate.protocols.inner import splits
from ssl3d.evaluate.protocols.knn import vote
from ssl3d.protocol import Prediction, best_threshold, protocol

ON_FEATURES = ["linear", "knn"]


def clouds(rng: np.random.Generator, labels: np.ndarray, F: int = 6, distance: float = 2.0) -> np.ndarray:
    """Features (N, F): a Gaussian cloud around a direction of its own for each class."""
    return rng.standard_normal((len(labels), F)) + distance * np.eye(F)[labels]


def as_two(p: np.ndarray) -> np.ndarray:
    return np.stack([1 - p, p], axis=1)


@pytest.mark.parametrize("name", ON_FEATURES)
@pytest.mark.parametrize("K", [2, 3])
def test_protocols_separate_clouds_and_give_probabilities(name: str, K: int) -> None:
    rng = np.random.default_rng(0)
    train_y, test_y = rng.integers(K, size=90), rng.integers(K, size=60)
    found = protocol(name)(clouds(rng, train_y), train_y, clouds(rng, test_y), 5, 0)
    assert found.probabilities.shape == (60, K)
    assert found.probabilities.sum(axis=1) == pytest.approx(1)
    assert (found.threshold is None) == (K > 2)
    auc = score(test_y, found.probabilities, found.threshold).metrics["auc"]
    assert auc is not None
    assert auc > 0.9


@pytest.mark.parametrize("name", ON_FEATURES)
def test_protocols_give_the_same_numbers_again_and_leave_global_state_alone(name: str) -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(2, size=50)
    x, other = clouds(rng, y), rng.standard_normal((9, 6))
    state = str(np.random.get_state())
    first, second = (protocol(name)(x, y, other, 5, 3) for _ in range(2))
    assert (first.probabilities == second.probabilities).all()
    assert (first.threshold, first.chosen) == (second.threshold, second.chosen)
    assert str(np.random.get_state()) == state


@pytest.mark.parametrize("name", ON_FEATURES)
def test_what_is_chosen_does_not_depend_on_the_test_set(name: str) -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(2, size=50)
    x = clouds(rng, y, distance=1.0)
    near, far = rng.standard_normal((7, 6)), 100 * rng.standard_normal((40, 6))
    a, b = protocol(name)(x, y, near, 5, 0), protocol(name)(x, y, far, 5, 0)
    assert (a.threshold, a.chosen) == (b.threshold, b.chosen)
    # One test volume is predicted the same, whoever stands beside it.
    assert protocol(name)(x, y, near[:1], 5, 0).probabilities[0] == pytest.approx(a.probabilities[0], abs=1e-12)


@pytest.mark.parametrize("name", ON_FEATURES)
def test_more_neighbours_and_folds_than_cases_give_way_and_say_so(name: str) -> None:
    rng = np.random.default_rng(3)
    y = np.array([0, 0, 0, 1, 1])
    found = protocol(name)(clouds(rng, y), y, rng.standard_normal((3, 6)), 5, 0)
    assert found.chosen["folds"] == 2
    assert "2 folds instead of 5" in found.chosen["note"]
    assert found.chosen.get("k", 1) <= 5


@pytest.mark.parametrize("name", ON_FEATURES)
def test_a_class_of_one_case_leaves_nothing_to_choose_by(name: str) -> None:
    rng = np.random.default_rng(3)
    y = np.array([0, 0, 0, 0, 1])
    found = protocol(name)(clouds(rng, y), y, rng.standard_normal((3, 6)), 5, 0)
    assert found.chosen["folds"] == 0
    assert found.threshold == 0.5


@pytest.mark.parametrize("name", ON_FEATURES)
def test_training_data_that_cannot_be_learnt_from_are_refused(name: str) -> None:
    x = np.random.default_rng(0).standard_normal((6, 4))
    with pytest.raises(DataError, match="all 6 training cases are of class 1"):
        protocol(name)(x, np.ones(6, int), x, 5, 0)
    with pytest.raises(DataError, match="no labelled training case"):
        protocol(name)(x[:0], np.zeros(0, int), x, 5, 0)
    with pytest.raises(DataError, match="not finite for 1 of 6 training volumes"):
        protocol(name)(np.where(np.arange(6)[:, None] == 2, np.nan, x), np.array([0, 1] * 3), x, 5, 0)
    with pytest.raises(DataError, match="do not go together"):
        protocol(name)(x, np.array([0, 1] * 3), x[:, :2], 5, 0)


@pytest.mark.parametrize("name", ON_FEATURES)
def test_a_class_absent_from_training_has_a_column_of_zeros(name: str) -> None:
    rng = np.random.default_rng(5)
    y = np.array([0, 2] * 12)
    found = protocol(name)(clouds(rng, y), y, rng.standard_normal((5, 6)), 3, 0, classes=4)
    assert found.probabilities.shape == (5, 4)
    assert (found.probabilities[:, [1, 3]] == 0).all()


@pytest.mark.parametrize("name", ON_FEATURES)
def test_a_collapsed_encoder_scores_one_half(name: str) -> None:
    y = np.array([0, 1] * 15)
    found = protocol(name)(np.ones((30, 4)), y, np.ones((20, 4)), 5, 0)
    assert score(y[:20], found.probabilities, found.threshold).metrics["auc"] == 0.5


def test_linear_is_scikit_learns_regression_at_the_chosen_strength() -> None:
    rng = np.random.default_rng(6)
    y = rng.integers(2, size=80)
    x, other = clouds(rng, y, distance=1.0) * 7 + 3, rng.standard_normal((11, 6))
    found = protocol("linear")(x, y, other, 5, 0)
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=found.chosen["C"], max_iter=1000).fit(scaler.transform(x), y)
    assert found.probabilities == pytest.approx(model.predict_proba(scaler.transform(other)), abs=1e-3)


def test_linear_takes_a_strong_penalty_where_features_are_noise_and_many() -> None:
    rng = np.random.default_rng(7)
    y = rng.integers(2, size=60)
    x = rng.standard_normal((60, 200))
    x[:, :1] += 3 * y[:, None]
    separable = np.concatenate([x[:, :1]] * 3, axis=1)
    assert protocol("linear")(x, y, x, 5, 0).chosen["C"] < 10
    assert protocol("linear")(separable, y, separable, 5, 0).chosen["score"] > 0.95


def test_linear_on_an_mrnet_sized_table_takes_seconds() -> None:
    rng = np.random.default_rng(8)
    y = (rng.random(1188) < 0.2).astype(int)
    x = rng.standard_normal((1188, 512)) @ rng.standard_normal((512, 512)) / 20 + 0.1 * y[:, None]
    began = time.perf_counter()
    protocol("linear")(x, y, x[:300], 5, 0)
    assert time.perf_counter() - began < 60  # measured: about 1 s on one core; this only finds a mistake


def test_votes_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(9)
    x, queries = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (rng.random((9, 3)), rng.random((4, 3))))
    y = np.array([0, 1, 2] * 3)
    for k, found in zip((9, 4, 1), vote(x, y, queries, 3, [9, 4, 1]), strict=True):
        for q, row in zip(queries, found, strict=True):
            near = sorted(range(9), key=lambda i: -float(x[i] @ q))[:k]
            weights = [sum(np.exp(float(x[i] @ q) / 0.07) for i in near if y[i] == c) for c in range(3)]
            assert row == pytest.approx(np.array(weights) / sum(weights))


def test_unknown_protocol_suggests_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'linear'"):
        protocol("liner")


def test_folds_are_stratified_and_hold_every_case_out_once() -> None:
    y = np.array([0] * 20 + [1] * 10)
    parts = splits(y, 5, 0)
    assert sorted(np.concatenate([held for _, held in parts])) == list(range(30))
    assert all(y[held].sum() == 2 and not set(fit) & set(held) for fit, held in parts)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_threshold_maximises_balanced_accuracy_on_what_it_is_given(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], rng.integers(2, size=15)])
    p = np.round(rng.random(17), 1)
    found = balanced_accuracy_score(labels, p >= best_threshold(labels, p))
    assert found == pytest.approx(max(balanced_accuracy_score(labels, p >= t) for t in np.arange(-0.05, 1.1, 0.05)))


def test_the_threshold_of_a_rare_class_lies_below_one_half() -> None:
    # Prevalence 18% as in the training volumes of MRNet: at 0.5 nearly nobody would be called positive.
    rng = np.random.default_rng(10)
    y = (rng.random(400) < 0.18).astype(int)
    x = clouds(rng, y, distance=1.0)
    found = protocol("linear")(x, y, x, 5, 0)
    assert found.threshold is not None
    assert found.threshold < 0.4
    at_half = score(y, found.probabilities, 0.5).metrics["balanced_accuracy"]
    chosen = score(y, found.probabilities, found.threshold).metrics["balanced_accuracy"]
    assert at_half is not None
    assert chosen is not None
    assert chosen > at_half + 0.05


def test_metrics_of_a_table_worked_by_hand() -> None:
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    p = np.array([0.9, 0.6, 0.2, 0.7, 0.4, 0.3, 0.1, 0.05])
    found = score(labels, as_two(p), 0.5).metrics  # 2 found, 1 missed, 1 false alarm, 4 cleared
    assert found["sensitivity"] == pytest.approx(2 / 3)
    assert found["specificity"] == pytest.approx(4 / 5)
    assert found["accuracy"] == pytest.approx(6 / 8)
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["mcc"] == pytest.approx((2 * 4 - 1 * 1) / np.sqrt(3 * 3 * 5 * 5))
    assert found["auc"] == pytest.approx(11 / 15)
    assert found["brier"] == pytest.approx(np.mean((p - labels) ** 2))


def test_the_threshold_counts_as_positive() -> None:
    found = score(np.array([0, 1]), as_two(np.array([0.2, 0.4])), 0.4).metrics
    assert (found["sensitivity"], found["specificity"]) == (1.0, 1.0)


def test_one_class_in_the_test_set_has_no_auc_and_the_reason() -> None:
    # Not 0.5, which would look like a measurement.
    found = score(np.ones(4, int), as_two(np.array([0.9, 0.8, 0.3, 0.6])), 0.5)
    assert found.metrics["auc"] is None
    assert found.reasons["auc"] == "all 4 test cases are of class 1"
    assert found.metrics["sensitivity"] == 0.75
    assert found.metrics["specificity"] is None
    three = score(np.array([0, 1, 1]), np.full((3, 3), 1 / 3), None)
    assert three.metrics["auc"] is None
    assert three.reasons["auc"] == "no test case is of class 2"


def test_logits_are_refused() -> None:
    with pytest.raises(DataError, match="not probabilities"):
        score(np.array([0, 1]), np.array([[2.0, -1.0], [-0.5, 1.5]]), 0.5)
    with pytest.raises(DataError, match="not probabilities"):
        score(np.array([0, 1]), np.array([[0.5, np.nan], [0.5, 0.5]]), 0.5)


def test_an_empty_test_set_is_refused() -> None:
    with pytest.raises(DataError, match="no labelled test case"):
        score(np.zeros(0, int), np.zeros((0, 2)), 0.5)


def test_macro_auc_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(11)
    labels = np.arange(30) % 3
    p = rng.dirichlet([1, 1, 1], 30)
    expected = roc_auc_score(labels, p, multi_class="ovr", average="macro")
    assert score(labels, p, None).metrics["auc"] == pytest.approx(expected)


def test_calibration_error_of_known_bins() -> None:
    # Ten cases at 0.95 of which seven happen, ten at 0.05 of which none does.
    p, labels = np.repeat([0.95, 0.05], 10), np.repeat([1, 0, 0], [7, 3, 10])
    assert calibration_error(labels, p) == pytest.approx((0.25 + 0.05) / 2)
    assert calibration_error(np.array([1]), np.array([1.0])) == 0.0


def test_the_list_of_protocols_loads_neither_torch_nor_sklearn() -> None:
    code = (
        "import sys, ssl3d.protocol, ssl3d.evaluate.statistics.delong, ssl3d.evaluate.statistics.bootstrap, ssl3d.evaluate.statistics.compare;"
        "assert not {'torch', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_prediction_needs_no_choice() -> None:
    assert Prediction(np.zeros((0, 2)), None).chosen == {}

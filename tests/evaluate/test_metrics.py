"""Metrics of every kind of task, and the score that a record holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from ssl3d.errors import DataError
from ssl3d.evaluate.metrics import calibration_error, measure
from ssl3d.evaluate.protocols.linear import Linear
from ssl3d.evaluate.threshold import best_threshold
from ssl3d.protocol import Prediction
from ssl3d.results.scoring import score
from ssl3d.task import Kind
from tests.evaluate.estimates import auc_interval
from tests.evaluate.problems import clouds, problem, singles, task_of

BINARY, THREE = task_of(2), task_of(3)
VALUE, LABELS = task_of(0, "regression"), task_of(3, "multilabel")


def as_two(p: np.ndarray) -> np.ndarray:
    return np.stack([1 - p, p], axis=1)


def test_metrics_of_a_table_worked_by_hand() -> None:
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    p = np.array([0.9, 0.6, 0.2, 0.7, 0.4, 0.3, 0.1, 0.05])
    found = measure(labels, as_two(p), BINARY, 0.5).values  # 2 found, 1 missed, 1 false alarm, 4 cleared
    assert found["sensitivity"] == pytest.approx(2 / 3)
    assert found["specificity"] == pytest.approx(4 / 5)
    assert found["accuracy"] == pytest.approx(6 / 8)
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["mcc"] == pytest.approx((2 * 4 - 1 * 1) / np.sqrt(3 * 3 * 5 * 5))
    assert found["auc"] == pytest.approx(11 / 15)
    assert found["brier"] == pytest.approx(np.mean((p - labels) ** 2))


def test_the_threshold_counts_as_positive() -> None:
    found = measure(np.array([0, 1]), as_two(np.array([0.2, 0.4])), BINARY, 0.4).values
    assert (found["sensitivity"], found["specificity"]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="needs a threshold"):
        measure(np.array([0, 1]), as_two(np.array([0.2, 0.4])), BINARY)


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
    found = Linear().predict(problem(x, y, x))
    assert found.threshold is not None
    assert found.threshold < 0.4
    at_half = measure(y, found.probabilities, BINARY, 0.5).values["balanced_accuracy"]
    chosen = measure(y, found.probabilities, BINARY, found.threshold).values["balanced_accuracy"]
    assert at_half is not None
    assert chosen is not None
    assert chosen > at_half + 0.05


def test_one_class_in_the_test_set_has_no_auc_and_the_reason() -> None:
    # Not 0.5, which would look like a measurement.
    found = measure(np.ones(4, int), as_two(np.array([0.9, 0.8, 0.3, 0.6])), BINARY, 0.5)
    assert found.values["auc"] is None
    assert found.reasons["auc"] == "all 4 test cases are of class 1"
    assert found.values["sensitivity"] == 0.75
    assert found.values["specificity"] is None
    three = measure(np.array([0, 1, 1]), np.full((3, 3), 1 / 3), THREE)
    assert three.values["auc"] is None
    assert three.reasons["auc"] == "no test case is of class 2"


def test_predictions_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="not probabilities"):
        measure(np.array([0, 1]), np.array([[2.0, -1.0], [-0.5, 1.5]]), BINARY, 0.5)
    with pytest.raises(DataError, match="not probabilities"):
        measure(np.array([0, 1]), np.array([[0.5, np.nan], [0.5, 0.5]]), BINARY, 0.5)
    with pytest.raises(DataError, match="no test case has a target for 'tear'"):
        measure(np.zeros(0, int), np.zeros((0, 2)), BINARY, 0.5)
    with pytest.raises(DataError, match="test target 3 does not fit 'tear'"):
        measure(np.array([0, 3]), np.full((2, 2), 0.5), BINARY, 0.5)
    with pytest.raises(DataError, match=r"predictions \(2, 3\) do not fit the targets \(2,\) of 'tear'"):
        measure(np.array([0, 1]), np.full((2, 3), 1 / 3), BINARY, 0.5)
    with pytest.raises(DataError, match="are not finite"):
        measure(np.array([0.5, 1.0]), np.array([[np.inf], [0.0]]), VALUE)


def test_macro_auc_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(11)
    labels = np.arange(30) % 3
    p = rng.dirichlet([1, 1, 1], 30)
    expected = roc_auc_score(labels, p, multi_class="ovr", average="macro")
    assert measure(labels, p, THREE).values["auc"] == pytest.approx(expected)


def test_quadratic_kappa_counts_how_far_off_an_ordinal_prediction_is() -> None:
    labels = np.repeat([0, 1, 2], 4)
    near, far = np.eye(3)[[0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2]], np.eye(3)[[0, 0, 0, 2, 1, 1, 1, 1, 2, 2, 2, 2]]
    ordinal = task_of(3, "ordinal")
    found = [measure(labels, p, ordinal).values["quadratic_kappa"] for p in (np.eye(3)[labels], near, far)]
    # Observed squared distance over that of independent raters with the same margins (Cohen 1968).
    by_chance = [sum((a - b) ** 2 for a in labels for b in p.argmax(axis=1)) / 12 for p in (near, far)]
    assert found == pytest.approx([1.0, 1 - 1 / by_chance[0], 1 - 4 / by_chance[1]])
    assert "quadratic_kappa" not in measure(labels, near, THREE).values
    part = measure(labels[:8], near[:8], ordinal)
    assert part.reasons["auc"] == "no test case is of class 2"
    assert part.values["quadratic_kappa"] == pytest.approx(
        1 - 1 / 8 / np.mean(np.subtract.outer(labels[:8], [0, 0, 0, 1, 1, 1, 1, 1]) ** 2)
    )
    assert measure(labels[:4], near[:4], ordinal).reasons["quadratic_kappa"] == "all 4 test cases are of class 0"


def test_labels_have_metrics_of_their_own_and_their_mean() -> None:
    rng = np.random.default_rng(12)
    y, p = rng.integers(2, size=(40, 3)), rng.random((40, 3))
    found = measure(y, p, LABELS).values
    for metric, function in (("auc", roc_auc_score), ("average_precision", average_precision_score)):
        expected = [function(y[:, label], p[:, label]) for label in range(3)]
        assert [found[f"{metric}:c{label}"] for label in range(3)] == pytest.approx(expected)
        assert found[metric] == pytest.approx(np.mean(expected))
    y[:, 1] = 1
    partly = measure(y, p, LABELS)
    assert partly.values["auc:c1"] is None
    assert partly.reasons["auc:c1"] == "all 40 test cases have 'c1' = 1"
    assert partly.values["auc"] == pytest.approx((found["auc:c0"] or 0) / 2 + (found["auc:c2"] or 0) / 2)
    none = measure(np.ones((40, 3), int), p, LABELS)
    assert none.values["auc"] is None
    assert none.reasons["auc"] == "no label has test cases with and without it"


def test_values_have_errors_shares_of_variance_and_rank_correlations() -> None:
    y, p = np.array([1.0, 2, 3, 4]), np.array([1.5, 2, 2, 5])
    found = measure(y, p[:, None], VALUE).values
    assert found["mae"] == pytest.approx(2.5 / 4)
    assert found["r2"] == pytest.approx(1 - 2.25 / 5)
    assert found["spearman"] == pytest.approx(spearmanr(y, p).statistic)
    constant = measure(y, np.ones((4, 1)), VALUE)
    assert constant.values["spearman"] is None
    assert constant.values["r2"] == pytest.approx(1 - 14 / 5)
    assert measure(np.ones(4), p[:, None], VALUE).reasons["r2"] == "all 4 test cases have the same value"


def test_a_metric_of_zero_is_a_number() -> None:
    found = score(Prediction(as_two(np.array([0.9, 0.1])), 0.5), np.array([0, 1]), BINARY)
    assert found.metrics["auc"] == 0.0
    assert found.metrics["sensitivity"] == 0.0
    assert found.interval is not None
    assert found.interval[0] == 0.0
    assert found.reasons == {}
    values = score(Prediction(np.array([[1.0], [2.0]]), None), np.array([1.0, 2.0]), VALUE).metrics
    assert values["mae"] == 0.0


def test_calibration_error_of_known_bins() -> None:
    # Ten cases at 0.95 of which seven happen, ten at 0.05 of which none does.
    p, labels = np.repeat([0.95, 0.05], 10), np.repeat([1, 0, 0], [7, 3, 10])
    assert calibration_error(labels, p) == pytest.approx((0.25 + 0.05) / 2)
    assert calibration_error(np.array([1]), np.array([1.0])) == 0.0


def test_a_score_has_delongs_interval_over_patients() -> None:
    rng = np.random.default_rng(13)
    y, p = np.arange(30) % 2, rng.random(30)
    prediction = Prediction(as_two(p), 0.5, {"k": 3})
    found = score(prediction, y, BINARY, singles(30), 1.5)
    limits = auc_interval(y, p)
    assert found.interval == (limits.low, limits.high)
    assert (found.threshold, found.chosen, found.seconds) == (0.5, {"k": 3}, 1.5)
    assert score(prediction, y, BINARY).interval == found.interval
    patients = np.repeat(singles(15), 2)
    clustered = score(prediction, y, BINARY, patients)
    limits = auc_interval(y, p, patients)
    assert clustered.interval == (limits.low, limits.high) != found.interval
    assert clustered.metrics == found.metrics
    three = score(Prediction(rng.dirichlet(np.ones(3), 30), None), np.arange(30) % 3, THREE)
    assert three.interval is not None
    assert three.interval[0] < three.metrics["auc"] < three.interval[1]


@pytest.mark.parametrize("kind", ["binary", "multiclass", "ordinal", "multilabel", "regression"])
def test_each_metric_is_a_number_or_has_a_reason_and_the_main_one_comes_first(kind: Kind) -> None:
    task = task_of(2, kind)
    for y in (np.array([0, 1, 1, 0]), np.ones(4, int)):
        targets = np.stack([y, 1 - y], axis=1) if kind == "multilabel" else y
        p = np.full((4, 1), 0.25) if kind == "regression" else as_two(np.array([0.2, 0.3, 0.6, 0.4]))
        found = measure(targets, p, task, 0.5)
        assert next(iter(found.values)) == {"regression": "mae"}.get(kind, "auc")
        assert {name for name, value in found.values.items() if value is None} == set(found.reasons)

"""Resampled patients: their weights, the variance over them, and the variance of AUCs that needs no draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ssl3d.evaluate.statistics.auc import estimate_auc
from ssl3d.evaluate.statistics.bootstrap import resample_cases
from ssl3d.evaluate.statistics.delong import components
from ssl3d.evaluate.statistics.inference import standard_error
from tests.evaluate.estimates import of_scores

POSITIVES, NEGATIVES = 54, 66  # the test set of MRNet, ACL


def test_resamples_keep_the_weight_of_each_class_and_draw_one_case_less() -> None:
    # A bootstrap of 1000 cases out of 120 makes the interval sqrt(1000/120) = 2.9 times too narrow.
    labels = np.repeat([1, 0, 2], [POSITIVES, NEGATIVES, 1])
    counts = resample_cases(labels, 50, np.random.default_rng(0))
    for value, n in ((1, POSITIVES), (0, NEGATIVES)):
        assert counts[:, labels == value].sum(axis=1) == pytest.approx(np.full(50, n))
        times = counts[:, labels == value] * (n - 1) / n
        assert times == pytest.approx(times.round())
    assert (counts[:, labels == 2] == 1).all()


def test_cases_of_a_patient_are_drawn_together_and_patients_among_those_of_their_classes() -> None:
    patients = np.array(["a", "a", "b", "c", "c", "d", "e", "f", "f"])
    labels = np.array([1, 0, 1, 0, 1, 1, 0, 0, 0])  # a and c have both classes; b and d are positive, e and f negative
    weights = resample_cases(labels, 200, np.random.default_rng(1), patients)
    for name in "acf":
        cases = weights[:, patients == name]
        assert (cases == cases[:, :1]).all()
    one_each = weights[:, [0, 2, 3, 5, 6, 7]]
    for pair in ((0, 2), (1, 3), (4, 5)):  # of two patients one is drawn, with the weight of two
        assert (np.sort(one_each[:, pair], axis=1) == [0, 2]).all()
    assert len(np.unique(one_each, axis=0)) == 8


@pytest.mark.parametrize("n", [2, 3, 10])
def test_the_mean_of_a_class_has_its_unbiased_variance_over_resamples(n: int) -> None:
    values = np.random.default_rng(n).standard_normal(n)
    means = resample_cases(np.zeros(n), 40000, np.random.default_rng(0)) @ values / n
    assert means.var() == pytest.approx(values.var(ddof=1) / n, rel=0.04)


def linearised(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUCs in resamples (draws,): the weighted cases of each side against the whole other side."""
    found = components(labels, scores)
    sides = ((labels == 1, found.positive[0]), (labels == 0, found.negative[0]))
    means = [weights[:, members] @ part / weights[:, members].sum(axis=1) for members, part in sides]
    return np.asarray(means[0] + means[1] - found.auc[0])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_a_linearised_auc_is_that_of_the_weighted_cases_of_one_side_plus_the_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], rng.integers(2, size=14)])
    scores = rng.integers(5, size=16).astype(float)
    weights = resample_cases(labels, 5, rng)
    plain = roc_auc_score(labels, scores)
    for row, found in zip(weights, linearised(labels, scores, weights), strict=True):
        sides = [roc_auc_score(labels, scores, sample_weight=np.where(labels == k, row, 1.0)) for k in (0, 1)]
        assert found == pytest.approx(sum(sides) - plain, abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(10, 12), (4, 15), (2, 3)]))
@settings(max_examples=15, deadline=None)
def test_the_variance_without_draws_is_that_over_resamples_of_small_classes(seed: int, sizes: tuple[int, int]) -> None:
    # With as many cases drawn as there are, the standard error would be 5% too small for 10 cases, and 29% for two.
    rng = np.random.default_rng(seed)
    labels = np.repeat([1, 0], sizes)
    a, b = rng.standard_normal((2, len(labels))) + 0.8 * labels
    weights = resample_cases(labels, 20000, rng)
    of_a, of_b = linearised(labels, a, weights), linearised(labels, b, weights)
    assert standard_error(of_scores(labels, a))[0] == pytest.approx(of_a.std(), rel=0.03, abs=1e-9)
    both = standard_error(of_scores(labels, a), of_scores(labels, b))[0]
    assert both == pytest.approx((of_a - of_b).std(), rel=0.03, abs=1e-9)


def test_the_variance_of_clustered_cases_is_that_over_resampled_patients() -> None:
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(150), rng.integers(1, 4, size=150))
    labels = rng.integers(2, size=150)[patients] ^ (rng.random(len(patients)) < 0.1)
    scores = labels + rng.standard_normal(150)[patients] + 0.3 * rng.standard_normal(len(patients))
    found = standard_error(of_scores(labels, scores, patients))[0]
    drawn = linearised(labels, scores, resample_cases(labels, 10000, rng, patients))
    assert drawn.std() == pytest.approx(found, rel=0.05)
    assert found > 1.1 * standard_error(of_scores(labels, scores))[0]


def test_the_variance_of_a_macro_auc_of_small_classes_is_the_true_one() -> None:
    rng = np.random.default_rng(8)
    labels = np.repeat([0, 1, 2], [6, 9, 30])
    p = rng.standard_normal((3000, len(labels), 3)) + 1.2 * np.eye(3)[labels]
    found = [estimate_auc(labels, layer[None]) for layer in p]
    variance = np.mean([standard_error(one)[0] ** 2 for one in found])
    assert np.sqrt(variance) == pytest.approx(np.std([one.scores[0] for one in found], ddof=1), rel=0.04)


def test_the_same_generator_gives_the_same_resamples_and_global_state_stays() -> None:
    labels = np.repeat([1, 0], [6, 9])
    before = str(np.random.get_state())
    first, second = (resample_cases(labels, 20, np.random.default_rng(7)) for _ in range(2))
    assert (first == second).all()
    assert str(np.random.get_state()) == before

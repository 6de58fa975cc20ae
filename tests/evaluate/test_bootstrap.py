"""The bootstrap of AUCs: small classes, single cases, draws of one seed; against DeLong, brute force, simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ssl3d.evaluate.statistics.bootstrap import Resampled, mean_of, resample, resample_cases, standard_error
from ssl3d.evaluate.statistics.delong import auc_interval, logit_limits, paired_test, wald

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


@pytest.mark.parametrize("n", [2, 3, 10])
def test_the_mean_of_a_class_has_its_unbiased_variance_over_resamples(n: int) -> None:
    values = np.random.default_rng(n).standard_normal(n)
    means = resample_cases(np.zeros(n), 40000, np.random.default_rng(0)) @ values / n
    assert means.var() == pytest.approx(values.var(ddof=1) / n, rel=0.04)


@given(st.integers(0, 2**32 - 1), st.integers(2, 3))
@settings(max_examples=30, deadline=None)
def test_resampled_auc_is_that_of_the_weighted_cases_of_one_side_plus_the_other(seed: int, K: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(K), np.arange(K), rng.integers(K, size=12)])
    p = rng.integers(1, 5, size=(len(labels), K)).astype(float)
    p /= p.sum(axis=1, keepdims=True)
    counts = resample_cases(labels, 5, rng)
    classes = [1] if K == 2 else range(K)
    plain = np.mean([roc_auc_score(labels == k, p[:, k]) for k in classes])
    found = resample(labels, p[None], counts)
    assert found.aucs[0] == pytest.approx(plain, abs=1e-12)
    for row, draw in zip(counts, found.draws[:, 0], strict=True):
        of_sides = [
            roc_auc_score(labels == k, p[:, k], sample_weight=np.where((labels == k) == side, row, 1.0))
            for k in classes
            for side in (True, False)
        ]
        assert draw == pytest.approx(2 * np.mean(of_sides) - plain, abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(10, 12), (4, 15), (2, 3)]))
@settings(max_examples=15, deadline=None)
def test_bootstrap_and_delong_agree_on_small_classes(seed: int, sizes: tuple[int, int]) -> None:
    # With as many cases drawn as there are, the standard error would be 5% too small for 10 cases, and 29% for two.
    rng = np.random.default_rng(seed)
    labels = np.repeat([1, 0], sizes)
    a, b = rng.standard_normal((2, len(labels))) + 0.8 * labels
    counts = resample_cases(labels, 20000, rng)
    found = [resample(labels, np.stack([-x, x], axis=1)[None], counts) for x in (a, b)]
    assert standard_error(found[0])[0] == pytest.approx(auc_interval(labels, a).se, rel=0.03, abs=1e-9)
    assert standard_error(*found)[0] == pytest.approx(paired_test(labels, a, b).se, rel=0.03, abs=1e-9)


def test_bootstrap_of_small_classes_has_the_true_standard_error_of_a_macro_auc() -> None:
    rng = np.random.default_rng(8)
    labels = np.repeat([0, 1, 2], [6, 9, 30])
    aucs, variances = [], []
    for _ in range(600):
        p = rng.standard_normal((len(labels), 3)) + 1.2 * np.eye(3)[labels]
        found = resample(labels, p[None], resample_cases(labels, 200, rng))
        aucs.append(found.aucs[0])
        variances.append(standard_error(found)[0] ** 2)
    assert np.sqrt(np.mean(variances)) == pytest.approx(np.std(aucs, ddof=1), rel=0.1)


@pytest.mark.parametrize("K", [2, 3])
def test_one_case_of_a_class_leaves_everything_open_in_the_bootstrap_too(K: int) -> None:
    rng = np.random.default_rng(9)
    labels = np.repeat(np.arange(K), 5)[: 5 * (K - 1) + 1]  # one case of the last class
    found = resample(labels, rng.random((2, len(labels), K)), resample_cases(labels, 20, rng))
    whole = Resampled(np.array([0.6, 0.7]), np.full((20, 2), 0.6))
    for se, df in (standard_error(found), standard_error(found, whole), standard_error(mean_of([found, whole]))):
        assert np.isnan(se)
        assert wald(0.2, se, 1, df=df).p == 1.0
        low, high = logit_limits(np.array([0.7]), np.array([se]), 1, df=df)
        assert (low[0], high[0]) == (0.0, 1.0)


def test_the_mean_over_the_draws_of_each_seed_holds_the_variance_of_encoders_and_draws() -> None:
    # Draws of one seed share its encoder: taken for repetitions of their own, they hide most of its variance.
    rng, S, D, encoder, draw = np.random.default_rng(10), 3, 4, 0.03, 0.02
    together, apart = [], []
    for _ in range(4000):
        aucs = (rng.normal(0.8, encoder, (S, 1)) + rng.normal(0, draw, (S, D))).ravel()
        found = Resampled(aucs, np.zeros((2, S * D)))
        together.append(standard_error(found.grouped(S))[0] ** 2)
        apart.append(standard_error(found)[0] ** 2)
    true = (encoder**2 + draw**2 / D) / S
    assert np.mean(together) == pytest.approx(true, rel=0.06)
    assert np.mean(apart) < 0.5 * true

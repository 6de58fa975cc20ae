"""DeLong, bootstrap and multiple comparisons: against brute force, published figures, and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri
from sklearn.metrics import roc_auc_score

from ssl3d.evaluate.statistics.bootstrap import Resampled, resample, resample_cases, standard_error
from ssl3d.evaluate.statistics.compare import holm, letters, pairs, ranks, smallest_detectable
from ssl3d.evaluate.statistics.delong import auc_interval, components, extreme_bound, logit_limits, paired_test, wald

POSITIVES, NEGATIVES = 54, 66  # the test set of MRNet, ACL
TIED = st.integers(0, 4)


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) in any order and two score vectors (2, N) with many ties."""
    m, n = draw(st.integers(2, 12)), draw(st.integers(2, 12))
    labels = np.array(draw(st.permutations([1] * m + [0] * n)))
    rows = [draw(st.lists(TIED, min_size=m + n, max_size=m + n)) for _ in range(2)]
    return labels, np.array(rows, float)


def brute_force(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """AUC of a and covariance of a and b, from every pair of cases, as DeLong et al. 1988 write it."""
    psi = []
    for scores in (a, b):
        x, y = scores[labels == 1], scores[labels == 0]
        psi.append(np.array([[1.0 if i > j else 0.5 if i == j else 0.0 for j in y] for i in x]))
    m, n = psi[0].shape
    v10 = [p.mean(axis=1) - p.mean() for p in psi]
    v01 = [p.mean(axis=0) - p.mean() for p in psi]
    covariance = (v10[0] @ v10[1]) / (m - 1) / m + (v01[0] @ v01[1]) / (n - 1) / n
    return float(psi[0].mean()), float(covariance)


@given(scored())
def test_auc_and_variance_equal_the_sum_over_all_pairs(data: tuple[np.ndarray, np.ndarray]) -> None:
    labels, (a, b) = data
    found = components(labels, np.stack([a, b]))
    auc, variance = brute_force(labels, a, a)
    assert found.auc[0] == pytest.approx(auc, abs=1e-12)
    assert found.auc[0] == pytest.approx(roc_auc_score(labels, a), abs=1e-12)
    assert found.variance()[0] == pytest.approx(variance, abs=1e-12)


@given(scored())
def test_variance_of_a_difference_holds_the_covariance(data: tuple[np.ndarray, np.ndarray]) -> None:
    labels, (a, b) = data
    expected = brute_force(labels, a, a)[1] + brute_force(labels, b, b)[1] - 2 * brute_force(labels, a, b)[1]
    assert components(labels, np.stack([a, b])).difference_variance() == pytest.approx(expected, abs=1e-12)


@given(scored())
def test_only_the_order_of_scores_matters(data: tuple[np.ndarray, np.ndarray]) -> None:
    labels, (a, b) = data
    assert auc_interval(labels, a) == auc_interval(labels, np.exp(a) * 7)
    mirrored = paired_test(labels, b, a)
    assert mirrored.p == paired_test(labels, a, b).p
    assert mirrored.estimate == -paired_test(labels, a, b).estimate


@given(scored())
def test_limits_stay_inside_the_unit_interval_around_the_auc(data: tuple[np.ndarray, np.ndarray]) -> None:
    labels, (a, _) = data
    found = auc_interval(labels, a)
    assert 0 <= found.low <= found.estimate + 1e-12
    assert found.estimate - 1e-12 <= found.high <= 1


def test_published_example_of_hanley_and_mcneil() -> None:
    # 109 CT images rated 1 to 5 (Hanley & McNeil 1982, Radiology 143:29). Stata's manual of `roctab` gives for them
    # area 0.8932, DeLong's standard error 0.0307, and the asymptotic normal interval 0.83295 to 0.95339.
    normal, abnormal = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]
    scores = np.concatenate([np.repeat(range(1, 6), normal), np.repeat(range(1, 6), abnormal)])
    found = auc_interval(np.repeat([0, 1], [58, 51]), scores)
    assert round(found.estimate, 4) == 0.8932
    assert round(found.se, 4) == 0.0307
    z = ndtri(0.975)
    assert found.estimate - z * found.se == pytest.approx(0.83295, abs=6e-6)
    assert found.estimate + z * found.se == pytest.approx(0.95339, abs=6e-6)


def binormal(rng: np.random.Generator, auc: float, draws: int, correlation: float = 0.0) -> tuple[np.ndarray, ...]:
    """Labels and two score matrices (draws, N), both of that true AUC, correlated within a case."""
    labels = np.repeat([1, 0], [POSITIVES, NEGATIVES])
    shared, own_a, own_b = rng.standard_normal((3, draws, len(labels)))
    shift = labels * ndtri(auc) * np.sqrt(2)
    mix = [np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own for own in (own_a, own_b)]
    return labels, mix[0] + shift, mix[1] + shift


@pytest.mark.parametrize("auc", [0.5, 0.7, 0.85, 0.95])
def test_intervals_cover_the_true_auc_at_their_stated_rate(auc: float) -> None:
    labels, scores, _ = binormal(np.random.default_rng(0), auc, draws=5000)
    found = components(labels, scores)
    low, high = logit_limits(found.auc, np.sqrt(found.variance()), found.smallest)
    assert ((low <= auc) & (auc <= high)).mean() == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("auc", "correlation"), [(0.7, 0.0), (0.85, 0.5), (0.85, 0.9)])
def test_paired_test_rejects_equal_methods_at_its_stated_rate(auc: float, correlation: float) -> None:
    labels, a, b = binormal(np.random.default_rng(1), auc, 2500, correlation)
    rejected = np.mean([paired_test(labels, x, y).p < 0.05 for x, y in zip(a, b, strict=True)])
    assert rejected == pytest.approx(0.05, abs=0.015)


def test_paired_test_finds_the_smallest_detectable_difference_at_its_power() -> None:
    labels, a, b = binormal(np.random.default_rng(2), 0.8, 1500, 0.9)
    se = np.mean([paired_test(labels, x, y).se for x, y in zip(a[:200], b[:200], strict=True)])
    half = smallest_detectable(float(se)) / 2
    lifts = [labels * (ndtri(0.8 + sign * half) - ndtri(0.8)) * np.sqrt(2) for sign in (1, -1)]
    power = np.mean([paired_test(labels, x + lifts[0], y + lifts[1]).p < 0.05 for x, y in zip(a, b, strict=True)])
    assert power == pytest.approx(0.8, abs=0.05)


def test_perfect_order_has_a_lower_limit_below_one() -> None:
    labels = np.repeat([1, 0], [POSITIVES, NEGATIVES])
    found = auc_interval(labels, labels + 0.0)
    assert (found.estimate, found.high) == (1.0, 1.0)
    # At the limit, k disjoint pairs would all be in order with a chance of 2.5%.
    assert found.low**POSITIVES == pytest.approx(0.025)
    mirrored = auc_interval(labels, -labels + 0.0)
    assert (mirrored.estimate, mirrored.low) == (0.0, 0.0)
    assert mirrored.high == pytest.approx(1 - found.low)


def test_constant_scores_have_an_auc_of_one_half_and_nothing_between_them() -> None:
    labels = np.repeat([1, 0], [5, 9])
    found = auc_interval(labels, np.ones(14))
    assert (found.estimate, found.low, found.high) == (0.5, pytest.approx(0.5), pytest.approx(0.5))
    test = paired_test(labels, np.ones(14), np.zeros(14))
    assert (test.p, test.estimate) == (1.0, 0.0)


def test_perfect_beats_constant_only_with_enough_cases() -> None:
    few, many = (np.repeat([1, 0], [k, k]) for k in (3, 30))
    assert paired_test(few, few + 0.0, np.ones(6)).p == pytest.approx(0.25)
    assert paired_test(many, many + 0.0, np.ones(60)).p < 1e-6


def test_one_case_of_a_class_leaves_everything_open() -> None:
    labels = np.array([1, 0, 0, 0])
    found = auc_interval(labels, np.array([0.5, 0.2, 0.9, 0.1]))
    assert (found.low, found.high) == (0.0, 1.0)
    assert paired_test(labels, np.array([3.0, 1, 2, 0]), np.array([1.0, 2, 3, 0])).p == 1.0


def test_an_auc_of_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="both classes"):
        components(np.ones(4, int), np.arange(4.0))


def test_bootstrap_and_delong_agree_on_one_seed() -> None:
    rng = np.random.default_rng(3)
    labels, a, b = (x if x.ndim == 1 else x[0] for x in binormal(rng, 0.8, 1, 0.5))
    p = 1 / (1 + np.exp(-np.stack([a, b])))
    layers = np.stack([1 - p, p], axis=2)  # (2, N, 2)
    counts = resample_cases(labels, 4000, rng)
    found = [resample(labels, layer[None], counts) for layer in layers]
    assert standard_error(found[0])[0] == pytest.approx(auc_interval(labels, a).se, rel=0.06)
    assert standard_error(*found)[0] == pytest.approx(paired_test(labels, a, b).se, rel=0.06)


@pytest.mark.parametrize("S", [2, 3, 5])
def test_seeds_add_the_unbiased_variance_of_their_mean(S: int) -> None:
    # Seeds that differ by a constant on every sample of cases: no interaction, their variance over S is all of it.
    rng = np.random.default_rng(4)
    aucs = rng.normal(0.8, 0.02, S)
    found = Resampled(aucs, aucs + rng.normal(0, 0.03, (20000, 1)))
    se, df = standard_error(found)
    assert se**2 == pytest.approx(0.03**2 + aucs.var(ddof=1) / S, rel=0.05)
    assert S - 1 < df < np.inf
    other = Resampled(aucs[:1], found.draws[:, :1])
    assert standard_error(other)[1] == np.inf
    assert standard_error(found, other)[0] ** 2 == pytest.approx(aucs.var(ddof=1) / S)  # the cases are shared


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_bootstrap_over_cases_and_seeds_covers_the_true_mean(spread: float) -> None:
    # Three trained networks, with AUCs of their own around 0.85 (deviation 0 and 0.017), on the same 120 cases.
    rng, hits, trials = np.random.default_rng(5), 0, 1000
    labels = np.repeat([1, 0], [POSITIVES, NEGATIVES])
    true = ndtr(ndtri(0.85) / np.sqrt(1 + spread**2 / 2))
    for _ in range(trials):
        shift = ndtri(0.85) * np.sqrt(2) + rng.normal(0, spread, (3, 1))
        own, shared = rng.standard_normal((3, len(labels))), rng.standard_normal(len(labels))
        scores = np.sqrt(0.7) * shared + np.sqrt(0.3) * own + labels * shift
        found = resample(labels, np.stack([-scores, scores], axis=2), resample_cases(labels, 300, rng))
        se, df = standard_error(found)
        low, high = logit_limits(found.aucs.mean(keepdims=True), np.array([se]), POSITIVES, df=df)
        hits += int(low[0] <= true <= high[0])
    assert hits / trials == pytest.approx(0.95, abs=0.02)


def test_the_same_generator_gives_the_same_bootstrap_and_global_state_stays() -> None:
    labels = np.repeat([1, 0], [6, 9])
    before = str(np.random.get_state())
    first, second = (resample_cases(labels, 20, np.random.default_rng(7)) for _ in range(2))
    assert (first == second).all()
    assert str(np.random.get_state()) == before


def test_holm_gives_the_figures_worked_by_hand() -> None:
    # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1, each at least the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert len(holm([])) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_plain_value_and_bonferroni(p: list[float]) -> None:
    corrected = holm(p)
    assert (corrected >= np.array(p)).all()
    assert (corrected <= np.minimum(1, np.array(p) * len(p)) + 1e-15).all()


def test_smallest_detectable_difference_is_the_textbook_sum_of_quantiles() -> None:
    assert smallest_detectable(0.03) == pytest.approx((1.959964 + 0.841621) * 0.03, rel=1e-5)


@given(st.integers(1, 7), st.data())
def test_methods_share_a_letter_exactly_if_they_cannot_be_separated(size: int, data: st.DataObject) -> None:
    all_pairs = pairs(size)
    better = data.draw(st.lists(st.sampled_from(all_pairs), unique=True)) if all_pairs else []
    shown = letters(size, better)
    assert all(shown)
    for a, b in all_pairs:
        assert bool(set(shown[a]) & set(shown[b])) == ((a, b) not in better)


def test_methods_that_cannot_be_separated_from_the_best_share_its_rank() -> None:
    # A and B beat D; C cannot be separated from anybody.
    better = [(0, 3), (1, 3)]
    assert ranks(4, better) == [1, 1, 1, 3]
    assert letters(4, better) == ["a", "a", "ab", "b"]


def test_extreme_bound_and_wald_at_their_edges() -> None:
    assert extreme_bound(1) == pytest.approx(0.025)
    assert wald(0.0, 0.0, 10).p == 1.0
    assert wald(0.9, 0.5, 10).high == 1.0

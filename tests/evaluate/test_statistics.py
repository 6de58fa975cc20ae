"""DeLong, limits and multiple comparisons: against brute force, published figures, and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri, stdtrit
from sklearn.metrics import roc_auc_score

from ssl3d.evaluate.statistics.compare import holm, letters, pairs, ranks, smallest_detectable
from ssl3d.evaluate.statistics.delong import components
from ssl3d.evaluate.statistics.estimate import Block, Estimate
from ssl3d.evaluate.statistics.inference import standard_error
from ssl3d.evaluate.statistics.limits import MOST, extreme_bound, logit_limits, two_sided, wald
from tests.evaluate.estimates import auc_interval, of_scores, paired_test

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
    assert standard_error(of_scores(labels, a))[0] ** 2 == pytest.approx(variance, abs=1e-12)


@given(scored())
def test_variance_of_a_difference_holds_the_covariance(data: tuple[np.ndarray, np.ndarray]) -> None:
    labels, (a, b) = data
    expected = brute_force(labels, a, a)[1] + brute_force(labels, b, b)[1] - 2 * brute_force(labels, a, b)[1]
    found = standard_error(of_scores(labels, a), of_scores(labels, b))[0]
    assert found**2 == pytest.approx(expected, abs=1e-12)


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


def batch(labels: np.ndarray, scores: np.ndarray) -> Estimate:
    """The estimates of one encoder on each of R samples of cases, (R, N), as one with AUCs (R, 1)."""
    found = of_scores(labels, scores)
    block = found.blocks[0]
    return Estimate(found.scores[:, None], (Block(block.parts[..., None], block.present),))


@pytest.mark.parametrize("auc", [0.5, 0.7, 0.85, 0.95])
def test_intervals_cover_the_true_auc_at_their_stated_rate(auc: float) -> None:
    labels, scores, _ = binormal(np.random.default_rng(0), auc, draws=5000)
    found = batch(labels, scores)
    se, df = standard_error(found)
    low, high = logit_limits(found.scores[:, 0], se, found.smallest, df=df)
    assert ((low <= auc) & (auc <= high)).mean() == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(("auc", "correlation"), [(0.7, 0.0), (0.85, 0.5), (0.85, 0.9)])
def test_paired_test_rejects_equal_methods_at_its_stated_rate(auc: float, correlation: float) -> None:
    labels, a, b = binormal(np.random.default_rng(1), auc, 2500, correlation)
    first, second = batch(labels, a), batch(labels, b)
    p = two_sided((first.scores - second.scores)[:, 0], *_between(first, second))
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.015)


def _between(a: Estimate, b: Estimate) -> tuple[np.ndarray, int, np.ndarray]:
    se, df = standard_error(a, b)
    return se, a.smallest, df


def test_paired_test_finds_the_smallest_detectable_difference_at_its_power() -> None:
    labels, a, b = binormal(np.random.default_rng(2), 0.8, 3000, 0.9)
    half = (smallest_detectable(float(np.mean(standard_error(batch(labels, a), batch(labels, b))[0]))) or 0.0) / 2
    lifts = [labels * (ndtri(0.8 + sign * half) - ndtri(0.8)) * np.sqrt(2) for sign in (1, -1)]
    first, second = batch(labels, a + lifts[0]), batch(labels, b + lifts[1])
    p = two_sided((first.scores - second.scores)[:, 0], *_between(first, second))
    assert (p < 0.05).mean() == pytest.approx(0.8, abs=0.05)


def test_the_corrected_test_on_few_degrees_of_freedom_finds_the_detectable_difference_at_its_power() -> None:
    rng, se, df, comparisons = np.random.default_rng(3), 0.01, 4.0, 6
    true = smallest_detectable(se, df, comparisons) or 0.0
    observed_se = se * np.sqrt(rng.chisquare(df, 20000) / df)
    p = two_sided(rng.normal(true, se, 20000), observed_se, 50, df)
    assert (p < 0.05 / comparisons).mean() == pytest.approx(0.8, abs=0.01)


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
    assert (found.estimate, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
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


def test_almost_perfect_order_of_few_cases_is_not_taken_for_certain() -> None:
    # 15 positives, one of them below one of 285 negatives: the standard error is tiny, the limit is not.
    labels = np.repeat([1, 0], [15, 285])
    scores = labels + np.linspace(0, 0.5, 300)
    scores[14] = scores[-1] - 1e-9
    found = auc_interval(labels, scores)
    assert found.estimate > 0.9997
    z2 = stdtrit(standard_error(of_scores(labels, scores))[1], 0.975) ** 2
    cases = MOST * 15
    assert found.low == pytest.approx(1 - z2 / (cases + z2), abs=0.002)  # Wilson's limit of a share of 1
    se = np.array([0.001])
    averaged = [logit_limits(np.array([0.9]), se, 15, averaged=count)[0][0] for count in (1, 3, 10**6)]
    assert averaged == sorted(averaged)
    assert averaged[-1] == pytest.approx(0.9 - 1.96 * 0.001, abs=1e-4)


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
    assert smallest_detectable(0.03, 1e6) == pytest.approx(smallest_detectable(0.03), rel=1e-4)
    six = smallest_detectable(0.03, comparisons=6)
    assert six == pytest.approx((ndtri(1 - 0.025 / 6) + 0.841621) * 0.03, rel=1e-5)
    assert smallest_detectable(0.03, 4) > smallest_detectable(0.03, 40) > smallest_detectable(0.03)  # type: ignore[operator]
    assert smallest_detectable(0.03, 1, 6) is None  # 98 standard errors
    assert smallest_detectable(0.0) is None


@given(st.integers(1, 7), st.data())
def test_methods_share_a_letter_exactly_if_they_cannot_be_separated(size: int, data: st.DataObject) -> None:
    all_pairs = pairs(size)
    better = data.draw(st.lists(st.sampled_from(all_pairs), unique=True)) if all_pairs else []
    shown = letters(size, better)
    assert all(shown)
    for a, b in all_pairs:
        assert bool(set(shown[a]) & set(shown[b])) == ((a, b) not in better)


@given(st.integers(1, 7), st.data())
def test_methods_that_share_a_letter_share_a_rank(size: int, data: st.DataObject) -> None:
    all_pairs = pairs(size)
    better = data.draw(st.lists(st.sampled_from(all_pairs), unique=True)) if all_pairs else []
    shown, rank = letters(size, better), ranks(size, better)
    assert rank[0] == 1
    assert rank == sorted(rank)
    for a, b in all_pairs:
        if set(shown[a]) & set(shown[b]):
            assert rank[a] == rank[b]
    for method in range(size):
        assert rank[method] == 1 + rank.index(rank[method])  # as in sport: 1, 1, 3


def test_a_rank_begins_where_all_above_are_separated_from_all_below() -> None:
    assert ranks(4, [(0, 2), (0, 3), (1, 2), (1, 3)]) == [1, 1, 3, 3]
    assert ranks(3, [(0, 2)]) == [1, 1, 1]  # the one in the middle is separable from neither
    assert ranks(3, [(0, 1), (0, 2), (1, 2)]) == [1, 2, 3]
    assert ranks(0, []) == []


def test_extreme_bound_and_wald_at_their_edges() -> None:
    assert extreme_bound(1) == pytest.approx(0.025)
    assert wald(0.0, 0.0, 10).p == 1.0
    assert wald(0.9, 0.5, 10).high == 1.0

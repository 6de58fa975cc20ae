"""Kappa, Spearman, R2 and MAE: equal to scikit-learn and scipy, errors as the jackknife's, coverage by simulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score, mean_absolute_error, r2_score

from benchmarks.simulation.measures import condition, true_value
from ssl3d.evaluate.statistics.estimate import mean_of
from ssl3d.evaluate.statistics.inference import interval, paired, standard_error
from ssl3d.evaluate.statistics.measures import MEASURES

K = 4
Data = tuple[np.ndarray, np.ndarray]
REFERENCE: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "quadratic_kappa": lambda y, p: cohen_kappa_score(y, p.argmax(axis=1), weights="quadratic"),
    "spearman": lambda y, p: spearmanr(y, p[:, 0] if p.shape[1] == 1 else p @ np.arange(K)).statistic,
    "r2": lambda y, p: r2_score(y, p[:, 0]),
    "mae": lambda y, p: mean_absolute_error(y, p[:, 0]),
}
NAMES = list(REFERENCE)


def drawn(name: str, n: int, rng: np.random.Generator, noise: float = 0.8, truth: np.ndarray | None = None) -> Data:
    """Targets and predictions of one seed, with ties where there are classes."""
    truth = rng.standard_normal(n) if truth is None else truth
    guess = truth + noise * rng.standard_normal(n)
    if name != "quadratic_kappa":
        return truth, guess[:, None]
    edges = np.array([-0.7, 0.0, 0.7])
    return np.digitize(truth, edges), np.eye(K)[np.digitize(guess, edges)]


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_scikit_learn_and_scipy(name: str) -> None:
    y, p = drawn(name, 40, np.random.default_rng(0))
    found = MEASURES[name].estimate(y, np.stack([p, p[::-1]]), None)
    assert found.scores == pytest.approx([REFERENCE[name](y, p), REFERENCE[name](y, p[::-1])], abs=1e-12)


def test_the_prediction_of_ordered_classes_is_their_mean() -> None:
    rng = np.random.default_rng(1)
    y, p = rng.integers(0, K, 50), rng.dirichlet(np.ones(K), 50)
    assert MEASURES["spearman"].estimate(y, p[None], None).scores == pytest.approx([REFERENCE["spearman"](y, p)])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("clustered", [False, True])
def test_the_error_is_that_of_leaving_out_one_patient_after_the_other(name: str, clustered: bool) -> None:
    rng = np.random.default_rng(2)
    y, p = drawn(name, 400, rng)
    patients = np.repeat(np.arange(200), 2) if clustered else np.arange(400)
    found = MEASURES[name].estimate(y, p[None], patients if clustered else None)
    left = np.array([REFERENCE[name](y[patients != one], p[patients != one]) for one in np.unique(patients)])
    jackknife = np.sqrt((len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum())
    assert float(standard_error(found)[0]) == pytest.approx(jackknife, rel=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_contributions_sum_to_zero_and_folds_average(name: str) -> None:
    rng = np.random.default_rng(3)
    parts = [MEASURES[name].estimate(y, p[None], None) for y, p in (drawn(name, 60, rng) for _ in range(2))]
    assert all(abs(part.blocks[0].parts.sum()) < 1e-12 for part in parts)
    both = mean_of([[part] for part in parts])
    assert both.scores == pytest.approx(np.mean([part.scores for part in parts], axis=0))
    assert interval(both).se == pytest.approx(np.hypot(*(interval(part).se for part in parts)) / 2)


@pytest.mark.parametrize("name", NAMES)
def test_intervals_cover_and_paired_tests_keep_their_level(name: str) -> None:
    """500 test sets of 120 cases; with 95% the number covered has a standard error of 1%."""
    rng, measure = np.random.default_rng(4), MEASURES[name]
    y, p = drawn(name, 200_000, rng)
    true = float(measure.estimate(y, p[None], None).scores[0])
    covered = rejected = 0
    for _ in range(500):
        truth = rng.standard_normal(120)
        (y, a), (_, b) = (drawn(name, 120, rng, truth=truth) for _ in range(2))
        one, other = (measure.estimate(y, p[None], None) for p in (a, b))
        limits = interval(one)
        covered += limits.low <= true <= limits.high
        rejected += paired(one, other).p < 0.05
    assert 0.925 <= covered / 500 <= 0.985
    assert rejected / 500 <= 0.075


def test_a_perfect_agreement_is_not_certain() -> None:
    y = np.arange(30) % K
    found = interval(MEASURES["quadratic_kappa"].estimate(y, np.eye(K)[y][None], None))
    assert (found.estimate, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(2 * 0.025 ** (1 / 30) - 1)
    reverse = interval(MEASURES["spearman"].estimate(np.arange(30.0), -np.arange(30.0)[None, :, None], None))
    assert (reverse.low, reverse.high) == (-1.0, pytest.approx(1 - 2 * 0.025 ** (1 / 30)))


def test_an_error_has_no_upper_bound_and_keeps_its_unit() -> None:
    rng = np.random.default_rng(5)
    y, p = drawn("mae", 50, rng)
    found, scaled = (interval(MEASURES["mae"].estimate(u * y, u * p[None], None)) for u in (1.0, 1000.0))
    assert (scaled.low, scaled.high) == pytest.approx((1000 * found.low, 1000 * found.high))
    test = paired(*(MEASURES["mae"].estimate(1000 * y, 1000 * one[None], None) for one in (p, p + 3)))
    assert test.low < test.estimate < test.high < -1.0
    zero = interval(MEASURES["mae"].estimate(y, y[None, :, None], None))
    assert (zero.low, zero.estimate, zero.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_one_patient_says_nothing_about_the_error(name: str) -> None:
    y, p = drawn(name, 12, np.random.default_rng(6))
    found = interval(MEASURES[name].estimate(y, p[None], np.zeros(12)))
    scale = MEASURES[name].estimate(y, p[None], None).scale
    assert (found.low, found.high) == (scale.low, scale.high)


@pytest.mark.parametrize(("name", "y", "p"), [("r2", [1.0, 1.0], [1.0, 2.0]), ("spearman", [1.0, 2.0], [3.0, 3.0])])
def test_scores_that_are_undefined_are_refused(name: str, y: list[float], p: list[float]) -> None:
    with pytest.raises(ValueError, match="equal"):
        MEASURES[name].estimate(np.array(y), np.array(p)[None, :, None], None)


@pytest.mark.parametrize("name", [pytest.param("spearman", marks=pytest.mark.slow), "quadratic_kappa", "r2", "mae"])
def test_tables_of_several_seeds_cover_and_hold_few_false_verdicts(name: str) -> None:
    """A small form of benchmarks/simulation/measures.py: 80 tables, 320 intervals."""
    rng = np.random.default_rng(7)
    covered, false = condition(name, 60, 3, 80, rng, true=true_value(name, rng))
    assert covered >= 0.92
    assert false <= 0.1

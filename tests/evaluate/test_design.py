"""Predicted precision: it equals the present one for the present design, and the true one for another."""

from __future__ import annotations

import numpy as np
import pytest

from ssl3d.evaluate.statistics.compare import smallest_detectable
from ssl3d.evaluate.statistics.design import SEEDS, SeedTerm, Sources, detects, sources, width
from ssl3d.evaluate.statistics.estimate import Estimate
from ssl3d.evaluate.statistics.inference import interval, standard_error
from ssl3d.evaluate.statistics.measures import MEASURES
from tests.evaluate.estimates import of_scores


def crossed(n: int, seeds: int, rng: np.random.Generator, *, between: float = 0.3, lift: float = 1.0) -> Estimate:
    """An estimate from scores with variance of patients, of seeds (their signal varies), and of both together."""
    labels = np.arange(n) % 2
    signal = lift + between * rng.standard_normal((seeds, 1))
    return of_scores(labels, signal * labels + rng.standard_normal(n) + 0.7 * rng.standard_normal((seeds, n)))


@pytest.mark.parametrize("seeds", [(1, 1), (1, 3), (2, 2), (4, 3)])
def test_the_present_design_has_the_present_standard_error(seeds: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    a, b = (crossed(60, count, rng) for count in seeds)
    for pair in ((a, None), (a, b)):
        np.testing.assert_allclose(sources(*pair).standard_error(), standard_error(*pair), rtol=1e-10)
    found = interval(a)
    assert width(a) == pytest.approx(found.high - found.low)


@pytest.mark.parametrize("name", ["quadratic_kappa", "spearman", "mae", "r2"])
def test_every_measure_has_its_present_width_and_its_own_largest_difference(name: str) -> None:
    rng = np.random.default_rng(6)
    targets = rng.integers(0, 3, 60)
    predicted = targets + 0.8 * rng.standard_normal((2, 3, 60))  # (methods, S, N)
    if name == "quadratic_kappa":
        outputs = np.stack([-((predicted - k) ** 2) for k in range(3)], axis=-1)
    else:
        outputs = predicted[..., None]
    a, b = (MEASURES[name].estimate(targets, one, None) for one in outputs)
    found = interval(a)
    assert width(a) == pytest.approx(found.high - found.low)
    assert width(a, 12, 4.0) < width(a)
    of, far = sources(a, b), 100 * sources(a, b).standard_error()[0]
    assert detects(of, far, 1, most=far)[1] is not None  # such a difference is possible only for some measures
    assert detects(of, far, 1, most=1e-3) == (None, None)


def test_a_larger_design_is_predicted_from_a_small_one() -> None:
    rng = np.random.default_rng(2)
    small = [sources(crossed(100, 3, rng)) for _ in range(150)]
    for seeds, multiple in ((12, 1.0), (3, 4.0), (12, 4.0)):
        scores = [crossed(round(100 * multiple), seeds, rng).scores.mean() for _ in range(300)]
        predicted = np.mean([one.standard_error(seeds, multiple)[0] ** 2 for one in small])
        assert predicted == pytest.approx(np.var(scores), rel=0.25)


def test_more_seeds_help_where_seeds_vary_and_more_patients_where_they_do_not() -> None:
    rng = np.random.default_rng(3)
    unstable, stable = crossed(400, 3, rng, between=0.8), crossed(60, 3, rng, between=0.0)
    assert sources(unstable).seed_share > 0.8 > sources(stable).seed_share
    assert width(unstable, 6) < width(unstable, None, 2.0)
    assert width(stable, None, 2.0) < width(stable, 6)


def test_the_seeds_and_patients_that_a_difference_needs_are_the_fewest_that_find_it() -> None:
    rng = np.random.default_rng(4)
    of = sources(crossed(80, 3, rng, between=0.05), crossed(80, 3, rng, between=0.05))
    needed = 0.9 * smallest_detectable_of(of)
    seeds, multiple = detects(of, needed, 6)
    assert seeds is not None
    assert smallest_detectable_of(of, seeds) <= needed < smallest_detectable_of(of, seeds - 1)
    assert multiple is not None
    assert smallest_detectable_of(of, None, multiple) <= needed < smallest_detectable_of(of, None, multiple / 1.03)


def smallest_detectable_of(of: Sources, seeds: int | None = None, multiple: float = 1.0) -> float:
    """The smallest difference that six comparisons detect."""
    found = smallest_detectable(*of.standard_error(seeds, multiple), 6)
    assert found is not None
    return found


def test_patients_alone_follow_the_closed_form_and_what_is_out_of_reach_is_none() -> None:
    labels, scores = np.arange(2000) % 2, np.random.default_rng(5).standard_normal((2, 2000))
    of = sources(of_scores(labels, scores[0]), of_scores(labels, scores[1]))  # one seed each, many degrees of freedom
    se = of.standard_error()[0]
    _, multiple = detects(of, 2.8 * se / 2, 1)  # half of what is detectable needs four times as many patients
    assert multiple == pytest.approx(4, rel=0.04)
    assert detects(of, 1e-4, 1) == (None, None)
    assert detects(of, 0.0, 1) == (None, None)


def test_more_patients_cannot_replace_seeds_that_vary() -> None:
    of = Sources((), (SeedTerm(1e-3, 0.0), SeedTerm(1e-3, 0.0)), (3, 3))
    seeds, multiple = detects(of, 0.08, 1)
    assert seeds is not None
    assert 3 < seeds <= SEEDS
    assert multiple is None

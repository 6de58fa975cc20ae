"""Intervals and verdicts on simulated tables of four methods: a small form of benchmarks/simulation/coverage.py."""

from __future__ import annotations

import pytest

from benchmarks.simulation.coverage import Condition, outcomes


@pytest.mark.parametrize(
    "condition",
    [
        Condition(300, 0.77, 0.2, seeds=3),
        Condition(120, 0.85, 0.5, seeds=5),
        Condition(120, 0.6, 0.5, seeds=3, spread="unequal"),
        Condition(120, 0.77, 0.2, seeds=1, spread="none"),
        Condition(300, 0.77, 0.3, seeds=3, patients=120),
    ],
    ids=str,
)
def test_intervals_cover_and_tables_of_equal_methods_hold_few_false_verdicts(condition: Condition) -> None:
    found = outcomes(condition, 400, seed=0)["now"]
    assert 0.93 <= found.coverage <= 0.975
    assert found.false_tables <= 0.06


@pytest.mark.parametrize(("auc", "seeds"), [(0.85, 1), (0.97, 1), (0.97, 5)])
def test_intervals_from_six_positives_cover(auc: float, seeds: int) -> None:
    found = outcomes(Condition(120, auc, 0.05, seeds, "none"), 200, seed=1, rules=("before", "now"))
    assert found["now"].coverage >= 0.935
    assert found["now"].coverage > found["before"].coverage + 0.02


def test_two_seeds_give_false_verdicts_if_their_own_variance_counts_as_known() -> None:
    condition = Condition(300, 0.77, 0.5, seeds=2)
    found = outcomes(condition, 500, seed=2, rules=("before", "now"))
    assert found["before"].false_tables > 0.07
    assert found["now"].false_tables <= 0.05


def test_pooling_seeds_gives_false_verdicts_where_methods_vary_differently() -> None:
    condition = Condition(300, 0.77, 0.5, seeds=2, spread="unequal")
    found = outcomes(condition, 500, seed=3, rules=("now", "pooled"))
    assert found["pooled"].false_tables > found["now"].false_tables + 0.01


def test_a_better_method_is_found_more_often_the_more_seeds_there_are() -> None:
    power = [outcomes(Condition(300, 0.77, 0.5, seeds, lift=0.08), 150, seed=4)["now"].power for seeds in (2, 3, 5)]
    assert power == sorted(power)
    assert power[-1] > 0.6

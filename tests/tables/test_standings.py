"""Standings and pairs: patients with several cases, one seed or several, what could have been found."""

from __future__ import annotations

import numpy as np
import pytest

from ssl3d.evaluate.statistics.compare import smallest_detectable
from ssl3d.results.results import Evaluated
from ssl3d.tables.tables import Tables
from tests.evaluate.estimates import auc_interval, of_scores, paired_test
from tests.records import LABELS, evaluated, results

EXAMS = [f"p{i // 4}" for i in range(len(LABELS))]  # 30 patients with four cases each, two of each class


def tables(*found: Evaluated) -> Tables:
    return Tables(results(*found))


def scores_of(one: Evaluated) -> np.ndarray:
    return one.predictions["p_1"].to_numpy()


def test_cases_of_a_patient_are_not_independent() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 3)
    labels = rng.permutation(np.arange(40) % 2)[patients]
    names = [f"p{i:02d}" for i in patients]
    found = [evaluated(name, labels=labels, noise=i, patients=names) for i, name in enumerate("ab")]
    made = tables(*found)
    for standing in made.standings:
        own = next(one for one in found if one.encoder.recipe.method == standing.entry.key.method)
        assert standing.interval == auc_interval(labels, scores_of(own), patients)
        limits = own.record.score.interval
        assert standing.interval is not None
        assert limits == (standing.interval.low, standing.interval.high)
        assert standing.smallest == 20
    (pair,) = made.pairs
    a, b = (
        scores_of(next(one for one in found if one.encoder.recipe.method == side.key.method))
        for side in (pair.a, pair.b)
    )
    assert pair.test == paired_test(labels, a, b, patients)
    assert pair.test.se != pytest.approx(paired_test(labels, a, b).se)


def test_patients_are_matched_by_case_whatever_the_order_of_the_rows() -> None:
    order = np.random.default_rng(1).permutation(len(LABELS))
    plain = tables(evaluated("byol", patients=EXAMS), evaluated("simclr", noise=2, patients=EXAMS))
    mixed = tables(evaluated("byol", patients=EXAMS, order=order), evaluated("simclr", noise=2, patients=EXAMS))
    assert [one.interval for one in mixed.standings] == [one.interval for one in plain.standings]
    assert mixed.pairs[0].test == plain.pairs[0].test


@pytest.mark.parametrize(("a", "b", "about"), [(1, 1, "encoders"), (3, 1, "encoders"), (2, 2, "methods")])
def test_one_seed_on_either_side_compares_encoders(a: int, b: int, about: str) -> None:
    made = tables(
        *(evaluated("byol", seed) for seed in range(a)), *(evaluated("simclr", seed, noise=2) for seed in range(b))
    )
    (pair,) = made.pairs
    assert pair.about == about
    assert made.comparisons.iloc[0]["about"] == about
    assert pair.method == ("DeLong" if a == b == 1 else "DeLong and seeds")


def test_the_detectable_difference_is_that_of_the_corrected_test_on_its_degrees_of_freedom() -> None:
    found = [evaluated(name, seed, 0.8, noise=10 * i) for i, name in enumerate("abc") for seed in range(2)]
    made = tables(*found)
    for pair in made.pairs:
        assert pair.family == 3
        assert pair.detectable == smallest_detectable(pair.test.se, pair.test.df, 3)
        alone = smallest_detectable(pair.test.se)
        assert alone is not None
        assert pair.detectable is None or pair.detectable > alone
    one, other = (of_scores(LABELS, np.stack([scores_of(e) for e in found[k : k + 2]])) for k in (0, 2))
    tested = {frozenset((pair.a.key.method, pair.b.key.method)): pair.test for pair in made.pairs}
    difference = abs(float(one.scores.mean() - other.scores.mean()))
    assert tested[frozenset("ab")].estimate == pytest.approx(difference)

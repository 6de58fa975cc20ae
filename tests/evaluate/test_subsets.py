"""Parts of the training labels: nested, stratified, drawn by patients, the same for every method."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ssl3d.errors import DataError, RecipeError
from ssl3d.evaluate.subsets import Condition, conditions, subset
from ssl3d.experiment import EvaluateChoice
from ssl3d.recipe import EvaluationRecipe
from tests.evaluate.problems import singles, task_of

counts = st.lists(st.integers(1, 60), min_size=2, max_size=4)
shares = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4, unique=True)
seeds = st.integers(0, 2**32 - 1)


def shuffled(sizes: list[int], seed: int = 0) -> np.ndarray:
    """Labels with so many cases of each class, in a random order."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))


def drawn(
    labels: np.ndarray, condition: Condition, seed: int = 0, patients: np.ndarray | None = None, K: int = 2
) -> np.ndarray:
    """The subset of a condition, each case of a patient of its own where none are named."""
    recipe = EvaluationRecipe(labels=condition.labels, positives=condition.positives, draw=condition.draw, seed=seed)
    return subset(labels, singles(len(labels)) if patients is None else patients, task_of(K), recipe)


def imbalanced(
    labels: np.ndarray, wanted: list[float], draws: int, patients: np.ndarray | None = None
) -> list[Condition]:
    """The conditions of shares of positives alone."""
    patients = singles(len(labels)) if patients is None else patients
    choice = EvaluateChoice(imbalance=tuple(wanted), draws=draws)
    return [one for one in conditions(labels, patients, task_of(2), choice) if one.positives is not None]


@given(counts, shares, seeds)
def test_shares_are_stratified_within_rounding_and_keep_every_class(
    sizes: list[int], wanted: list[float], seed: int
) -> None:
    labels = shuffled(sizes)
    for share in wanted:
        part = drawn(labels, Condition(share), seed, K=len(sizes))
        assert len(np.unique(part)) == len(part)
        assert (np.diff(part) > 0).all()
        for label, size in enumerate(sizes):
            kept = int((labels[part] == label).sum())
            assert kept == 1 or abs(kept - share * size) <= 0.5
            assert 1 <= kept <= size


@given(counts, shares, seeds)
@settings(deadline=None)
def test_smaller_shares_are_nested_in_larger_ones_of_the_same_draw(
    sizes: list[int], wanted: list[float], seed: int
) -> None:
    labels = shuffled(sizes)
    for draw in range(3):
        nested = [drawn(labels, Condition(share, None, draw), seed, K=len(sizes)) for share in sorted(wanted)]
        assert all(set(small) <= set(large) for small, large in pairwise(nested))


@given(st.integers(2, 80), st.integers(2, 80), st.lists(st.floats(0.02, 0.98), min_size=1, max_size=4, unique=True))
@settings(deadline=None)
def test_shares_of_positives_are_met_at_the_largest_size_that_all_allow(
    negatives: int, positives: int, wanted: list[float]
) -> None:
    labels = shuffled([negatives, positives])
    try:
        found = imbalanced(labels, wanted, 2)
    except DataError:
        assume(False)
    parts = [drawn(labels, condition) for condition in found]
    (size,) = {len(part) for part in parts}
    for condition, part in zip(found, parts, strict=True):
        assert condition.positives is not None
        of_one = int(labels[part].sum())
        assert of_one == round(condition.positives * size)
        assert 1 <= of_one < size
        assert condition.labels == size / len(labels)
    for more in range(size + 1, len(labels) + 1):  # one label more would be too many for one of the shares
        needs = [round(share * more) for share in wanted]
        assert any(n > positives or more - n > negatives or n < 1 or more - n < 1 for n in needs)


@given(seeds, st.lists(st.floats(0.05, 0.95), min_size=2, max_size=4, unique=True))
@settings(deadline=None)
def test_positives_of_a_smaller_share_are_among_those_of_a_larger_and_negatives_the_other_way(
    seed: int, wanted: list[float]
) -> None:
    labels = shuffled([70, 40])
    found = imbalanced(labels, wanted, 2)
    for draw in range(2):
        for large, small in pairwise([one for one in found if one.draw == draw]):
            of_large, of_small = (
                [set(part[labels[part] == k]) for k in (0, 1)]
                for part in (drawn(labels, large, seed), drawn(labels, small, seed))
            )
            assert of_small[1] <= of_large[1]
            assert of_large[0] <= of_small[0]


@given(seeds)
@settings(deadline=None)
def test_draws_and_seeds_differ_and_reproduce(seed: int) -> None:
    labels = shuffled([50, 50])
    first, again = ([tuple(drawn(labels, Condition(0.2, None, draw), seed)) for draw in range(3)] for _ in range(2))
    assert first == again
    assert len(set(first)) == 3
    assert first[0] != tuple(drawn(labels, Condition(0.2), seed + 1 if seed < 2**32 - 1 else 0))


def test_conditions_start_with_all_labels_and_then_shrink() -> None:
    labels, patients = shuffled([300, 100]), singles(400)
    choice = EvaluateChoice(labels=(0.01, 0.1, 1.0), imbalance=(0.5, 0.2), draws=2)
    found = conditions(labels, patients, task_of(2), choice)
    assert found[0] == Condition(1.0, None, 0)
    size = found[-1].labels
    assert found[1:] == [
        Condition(0.1, None, 0), Condition(0.1, None, 1), Condition(0.01, None, 0), Condition(0.01, None, 1),
        Condition(size, 0.5, 0), Condition(size, 0.5, 1), Condition(size, 0.2, 0), Condition(size, 0.2, 1),
    ]  # fmt: skip
    sizes = [len(drawn(labels, condition)) for condition in found]
    assert sizes == [400, 40, 40, 4, 4, 201, 201, 201, 201]  # 100 of 201 are half, rounded
    assert conditions(labels, patients, task_of(2), EvaluateChoice()) == [Condition()]


def test_draws_where_each_patient_has_one_case_are_these() -> None:
    # Written down once: a change of what is drawn is a change of published numbers.
    labels = np.array([0, 1] * 10)
    assert drawn(labels, Condition(0.3), 3).tolist() == [0, 7, 12, 17, 18, 19]
    assert drawn(labels, Condition(0.5, 0.2), 3).tolist() == [0, 2, 4, 7, 8, 10, 12, 14, 17, 18]


def test_shares_of_positives_of_other_tasks_are_refused() -> None:
    choice = EvaluateChoice(imbalance=(0.5,))
    with pytest.raises(RecipeError, match=r"task 'tear' is not binary \(multiclass\); leave it out"):
        conditions(np.array([0, 1, 2, 0]), singles(4), task_of(3), choice)


def test_too_few_patients_for_the_shares_of_positives_are_reported_with_their_numbers() -> None:
    with pytest.raises(
        DataError, match=r"4 positive and 100 negative training patients are too few .* of 0.5, 0.01 at"
    ):
        imbalanced(shuffled([100, 4]), [0.5, 0.01], 1)


# Patients


@st.composite
def grouped(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels of two classes, and patients with one to four cases each."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=8, max_size=40))
    y = np.array(draw(st.lists(st.integers(0, 1), min_size=sum(sizes), max_size=sum(sizes))))
    order = np.array(draw(st.permutations(range(sum(sizes)))))
    return y, np.repeat(singles(len(sizes)), sizes)[order]


@given(grouped(), shares, seeds)
@settings(deadline=None)
def test_all_cases_of_a_drawn_patient_come_along(
    data: tuple[np.ndarray, np.ndarray], wanted: list[float], seed: int
) -> None:
    labels, patients = data
    parts = [drawn(labels, Condition(share, None, 1), seed, patients) for share in sorted(wanted)]
    for part in parts:
        assert not set(patients[part]) & set(np.delete(patients, part))
        assert set(labels[part]) == set(labels)  # no class is lost
    assert all(set(small) <= set(large) for small, large in pairwise(parts))


@given(grouped(), st.floats(0.2, 0.6), seeds)
@settings(deadline=None)
def test_shares_of_positives_count_patients_and_keep_them_together(
    data: tuple[np.ndarray, np.ndarray], share: float, seed: int
) -> None:
    labels, patients = data
    try:
        (condition,) = imbalanced(labels, [share], 1, patients)
    except DataError:
        assume(False)
    part = drawn(labels, condition, seed, patients)
    kept = set(patients[part])
    assert not kept & set(np.delete(patients, part))
    positive = {patient for patient, label in zip(patients, labels, strict=True) if label}
    assert len(kept & positive) == round(share * len(kept))
    assert condition.labels == len(kept) / len(set(patients))


def test_other_tasks_are_drawn_by_patients_without_classes() -> None:
    patients = np.repeat(singles(20), 2)
    for kind, y in (("regression", np.arange(40.0)), ("multilabel", np.ones((40, 3), int))):
        task = task_of(3, kind)  # type: ignore[arg-type]
        small, large = (subset(y, patients, task, EvaluationRecipe(labels=share)) for share in (0.2, 0.5))
        assert (len(small), len(large)) == (8, 20)
        assert set(small) <= set(large)
        assert not set(patients[large]) & set(np.delete(patients, large))


def test_a_draw_that_separates_cases_of_a_patient_would_be_caught() -> None:
    labels, patients = np.array([0, 1] * 20), np.repeat(singles(20), 2)
    part = drawn(labels, Condition(0.5))  # as if each case were of a patient of its own
    assert set(patients[part]) & set(np.delete(patients, part))

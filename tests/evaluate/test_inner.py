"""Inner splits: stratified, every case held out once, and no patient on both sides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold, StratifiedKFold

from ssl3d.evaluate.protocols.inner import choose, criterion_score, splits
from tests.evaluate.problems import problem, singles, task_of

VALUE = task_of(0, "regression")


def test_folds_are_stratified_and_hold_every_case_out_once() -> None:
    y = np.array([0] * 20 + [1] * 10)
    parts = splits(y, singles(30), task_of(2), 5, 0)
    assert sorted(np.concatenate([held for _, held in parts])) == list(range(30))
    assert all(y[held].sum() == 2 and not set(fit) & set(held) for fit, held in parts)


def test_where_each_patient_has_one_case_folds_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=40)
    expected = StratifiedKFold(4, shuffle=True, random_state=7).split(np.zeros(40), y)
    for ours, theirs in zip(splits(y, rng.permutation(singles(40)), task_of(3), 4, 7), expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    values = rng.standard_normal(40)
    expected = KFold(4, shuffle=True, random_state=7).split(values)
    for ours, theirs in zip(splits(values, singles(40), VALUE, 4, 7), expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@st.composite
def grouped(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Class indices, patients with one to four cases each, and the number of classes."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=25))
    K = draw(st.integers(2, 3))
    N = sum(sizes)
    y = np.array(draw(st.lists(st.integers(0, K - 1), min_size=N, max_size=N)))
    order = np.array(draw(st.permutations(range(N))))
    return y, np.repeat(singles(len(sizes)), sizes)[order], K


@given(grouped(), st.integers(2, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_no_patient_is_on_both_sides_of_any_split(
    data: tuple[np.ndarray, np.ndarray, int], folds: int, seed: int
) -> None:
    y, patients, K = data
    for task in (task_of(K), VALUE):
        parts = splits(y, patients, task, folds, seed)
        assert len(parts) <= folds
        if parts:
            assert sorted(np.concatenate([held for _, held in parts])) == list(range(len(y)))
        for fit, held in parts:
            assert not set(patients[fit]) & set(patients[held])
            assert len(fit) + len(held) == len(y)
            if task is not VALUE:  # each side has every class, so that each fold has an AUC
                assert set(y[fit]) == set(y[held]) == set(y)


def test_fewer_folds_are_made_where_a_class_has_cases_of_few_patients() -> None:
    patients = np.repeat(singles(12), 2)
    y = np.zeros(24, int)
    y[[0, 1, 6, 7]] = 1  # four cases of class 1, of two patients
    parts = splits(y, patients, task_of(2), 5, 0)
    assert len(parts) == 2
    y[[6, 7]] = 0  # of one patient
    assert splits(y, patients, task_of(2), 5, 0) == []
    assert splits(np.arange(4.0), np.array(["a"] * 4), VALUE, 5, 0) == []
    assert len(splits(np.arange(6.0), np.array(list("aabbcc")), VALUE, 5, 0)) == 3


def test_choosing_never_shows_a_fit_the_patients_it_predicts() -> None:
    rng = np.random.default_rng(1)
    y, patients = rng.integers(2, size=60), np.array([f"p{i}" for i in rng.integers(25, size=60)])
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def fit_predict(fit: np.ndarray, held: np.ndarray) -> np.ndarray:
        seen.append((fit, held))
        return np.full((3, len(held), 2), 0.5)

    choice = choose(fit_predict, problem(np.zeros((60, 1)), y, np.zeros((1, 1)), patients=patients), default=2)
    assert len(seen) == choice.report["folds"] == 5
    assert not any(set(patients[fit]) & set(patients[held]) for fit, held in seen)
    assert choice.index == 0  # the first of equally good settings
    assert choice.out_of_fold is not None


def test_a_split_that_separates_cases_of_a_patient_would_be_caught() -> None:
    # What the tests above look for is there in splits that know nothing of patients.
    y, patients = np.array([0, 1] * 20), np.repeat(singles(10), 4)
    parts = StratifiedKFold(5, shuffle=True, random_state=0).split(np.zeros(40), y)
    assert any(set(patients[fit]) & set(patients[held]) for fit, held in parts)


def test_settings_are_chosen_by_auc_log_loss_or_squared_error() -> None:
    p = np.array([[0.8, 0.2], [0.4, 0.6]])
    assert criterion_score(np.array([1, 0]), p, task_of(2)) == 0.0
    assert criterion_score(np.array([0, 1]), p, task_of(2, "ordinal")) == pytest.approx((np.log(0.8) + np.log(0.6)) / 2)
    assert criterion_score(np.array([1.0, 3.0]), np.array([[2.0], [3.0]]), VALUE) == -0.5

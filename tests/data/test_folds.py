"""Outer folds: who is tested when."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl3d.data.folds import check_folds, fold_view, folds_of, joined, training_volumes
from ssl3d.data.pack import pack
from ssl3d.data.store import Store
from ssl3d.dataset import Case
from ssl3d.errors import DataError
from ssl3d.task import Targets
from tests.data.arrays import AGE, FINDING, TEAR, of_cases

FOLDS = st.integers(2, 6)


def cases(*targets: Targets, split: str = "train") -> list[Case]:
    return [Case(f"{i:04d}", split, f"{i}.npy", targets=found) for i, found in enumerate(targets)]


@given(st.lists(st.integers(0, 2), min_size=6, max_size=60), FOLDS)
def test_folds_of_one_task_differ_by_one_case_of_a_class_at_most(labels: list[int], folds: int) -> None:
    made = cases(*({"tear": label} for label in labels))
    found = folds_of(made, folds)
    assert set(found) == {case.patient for case in made}
    for value in set(labels):
        sizes = Counter(found[case.patient] for case in made if case.targets["tear"] == value)
        counts = [sizes[fold] for fold in range(folds)]
        assert max(counts) - min(counts) <= 1
    sizes = Counter(found.values())
    assert max(sizes[f] for f in range(folds)) - min(sizes[f] for f in range(folds)) <= len(set(labels))


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 20)), min_size=40, max_size=80),
    st.randoms(use_true_random=False),
)
@settings(max_examples=50)
def test_folds_follow_from_patients_and_targets_whatever_the_order(
    drawn: list[tuple[bool, bool, int]], shuffle: random.Random
) -> None:
    made = [
        Case(f"{i}", "train", "", f"P{patient}", targets={"acl": int(a), "meniscus": int(b)})
        for i, (a, b, patient) in enumerate(drawn)
    ]
    shuffled = list(made)
    shuffle.shuffle(shuffled)
    folds = min(5, len({case.patient for case in made}))
    assert folds_of(made, folds) == folds_of(shuffled, folds)


def test_all_tasks_are_stratified_at_once() -> None:
    rng = np.random.default_rng(0)
    targets = [
        {"acl": int(a < 0.2), "meniscus": int(b < 0.35), "abnormal": int(c < 0.8)} for a, b, c in rng.random((300, 3))
    ]
    made = cases(*targets)
    found = folds_of(made, 5)
    assert set(Counter(found.values()).values()) <= {59, 60, 61}
    for task in ("acl", "meniscus", "abnormal"):
        counts = Counter(found[case.patient] for case in made if case.targets[task] == 1)
        assert max(counts.values()) - min(counts.values()) <= 3


def test_a_regression_is_stratified_by_quartile() -> None:
    values = np.random.default_rng(0).exponential(10, 80)
    made = cases(*({"age": float(value)} for value in values))
    found = folds_of(made, 4)
    quartiles = np.searchsorted(np.quantile(values, [0.25, 0.5, 0.75]), values)
    for quartile in range(4):
        counts = Counter(found[case.patient] for case, q in zip(made, quartiles, strict=True) if q == quartile)
        assert set(counts.values()) == {5}


def test_every_label_of_a_multilabel_task_is_stratified() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.random((200, 3)) < [0.05, 0.3, 0.6]).astype(int)
    made = cases(*({"finding": tuple(row.tolist())} for row in rows))
    found = folds_of(made, 5)
    for label in range(3):
        counts = [sum(rows[i, label] for i in range(200) if found[f"{i:04d}"] == fold) for fold in range(5)]
        assert max(counts) - min(counts) <= 3


@given(st.lists(st.integers(0, 7), min_size=20, max_size=60), FOLDS)
def test_cases_of_a_patient_are_never_separated(patients: list[int], folds: int) -> None:
    made = [Case(f"{i}", "train", "", f"P{p}", targets={"tear": i % 2}) for i, p in enumerate(patients)]
    if len(set(patients)) < folds:
        with pytest.raises(DataError, match=f"too few for {folds} folds; choose fewer --folds"):
            folds_of(made, folds)
        return
    found = folds_of(made, folds)
    assert set(found) == {f"P{p}" for p in patients}
    assert set(found.values()) == set(range(folds))


def test_unlabelled_cases_are_in_no_fold_and_keep_their_split() -> None:
    made = [*cases({"acl": 0}, {"acl": 1}, {"acl": 0}, {"acl": 1}), Case("new", "train", "new.npy")]
    assert set(folds_of(made, 2)) == {"0000", "0001", "0002", "0003"}
    assert training_volumes(made, 2, 0) == 3
    assert training_volumes(made, None, 0) == 5


@given(st.lists(st.integers(0, 1), min_size=12, max_size=40), FOLDS)
def test_cases_of_planes_that_are_all_there_have_the_folds_of_one_plane(labels: list[int], folds: int) -> None:
    made = cases(*({"tear": label, "age": float(i)} for i, label in enumerate(labels)))
    assert folds_of(joined([made, made[::-1]]), folds) == folds_of(made, folds) == folds_of(joined([made]), folds)


def test_a_patient_is_in_the_same_fold_in_planes_that_each_lack_another_one(tmp_path: Path) -> None:
    stores = {}
    for number, name in enumerate(("axial", "coronal", "sagittal")):
        made = [Case(f"v{i:02d}", "train", "", targets={"tear": i % 2}) for i in range(17) if i != 3 * number]
        stores[name] = pack(of_cases(made, name), tmp_path / name, splits=())
    alone = [folds_of(store.manifest.cases, 4) for store in stores.values()]
    assert any(a[id] != b[id] for a in alone for b in alone for id in set(a) & set(b))  # there is something to fix
    among = joined(store.manifest.cases for store in stores.values())
    tested: dict[str, list[int]] = {}
    for store in stores.values():
        for fold in range(4):
            view = fold_view(store, 4, fold, among)
            for id in view.ids(view.indices("test")):
                tested.setdefault(id, []).append(fold)
    assert len(tested) == 17
    assert all(len(set(found)) == 1 and len(found) in {2, 3} for found in tested.values())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Sixteen labelled volumes of patients with one or two each; one unlabelled of the first, and one of nobody."""
    made = [Case(f"{i:02d}", "train", "", f"P{i // 2 if i < 8 else i}", targets={"tear": i % 2}) for i in range(16)]
    made += [
        Case("first", "train", "", "P0"),
        Case("also", "unlabelled", "", "P0", targets={"tear": 1}),
        Case("other", "unlabelled", ""),
    ]
    return pack(of_cases(made), tmp_path / "store", splits=())


def test_views_share_out_the_patients_and_nothing_else_changes(store: Store, tmp_path: Path) -> None:
    views = [fold_view(store, 4, fold) for fold in range(4)]
    tested = [view.patients(view.indices("test")) for view in views]
    assert sorted({patient for found in tested for patient in found}) == sorted(set(store.patients(range(16))))
    for view, patients in zip(views, tested, strict=True):
        assert not set(patients) & {*view.patients(view.indices("train")), *view.patients(view.indices("unlabelled"))}
        splits = {case.id: case.split for case in view.manifest.cases}
        first = ("test", "test") if "P0" in patients else ("train", "unlabelled")
        assert (splits["first"], splits["also"], splits["other"]) == (*first, "unlabelled")
        assert view.fingerprint == store.fingerprint
        assert (view.volumes([3]).voxels[0] == store.volumes([3]).voxels[0]).all()
    assert store.indices("test") == []


@pytest.mark.parametrize("fold", range(4))
def test_volumes_to_train_on_are_those_of_the_view(store: Store, fold: int) -> None:
    view = fold_view(store, 4, fold)
    there = len(view.indices("train")) + len(view.indices("unlabelled"))
    assert training_volumes(store.manifest.cases, 4, fold) == there


def test_a_fold_without_a_class_is_refused_with_what_to_do(tmp_path: Path) -> None:
    targets: list[Targets] = [{"tear": int(i < 3), "age": float(i), "finding": (0, i % 2, 0)} for i in range(12)]
    store = pack(of_cases(cases(*targets), tasks=(TEAR, AGE, FINDING)), tmp_path / "store", splits=())
    check_folds(store, "tear", 3)
    check_folds(store, "finding", 6)  # labels that a fold lacks are reported where they are scored
    check_folds(store, "age", 6)
    with pytest.raises(
        DataError,
        match=r"arrays: 3 patients have a case of class 'yes' of 'tear', too few for 4 folds; choose fewer --folds",
    ):
        check_folds(store, "tear", 4)
    with pytest.raises(DataError, match="12 patients have a case of 'age', too few for 13 folds"):
        check_folds(store, "age", 13)

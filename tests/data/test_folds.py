"""Outer folds: who is tested when, and what a run with folds leaves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ssl3d.run.stores import Stores, same_test
from ssl3d.tables.typed import read_table

from ssl3d.data.folds import check_folds, fold_view, folds_of, joined, training_volumes
from ssl3d.data.pack import pack, planned
from ssl3d.data.store import Store
from ssl3d.dataset import Case
from ssl3d.errors import DataError
from ssl3d.recipe import DataRecipe
from ssl3d.results.records import read_result
from ssl3d.run.plan import open_dataset
from ssl3d.tables.leaderboard import COLUMNS
from tests.runs import small_run

FOLDS = st.integers(2, 6)


def cases(*labels: dict[str, int], split: str = "train") -> list[Case]:
    return [Case(f"{i:04d}", split, f"{i}.npy", found) for i, found in enumerate(labels)]


@given(st.lists(st.integers(0, 2), min_size=6, max_size=60), FOLDS)
def test_folds_of_one_task_differ_by_one_case_of_a_class_at_most(labels: list[int], folds: int) -> None:
    made = cases(*({"tear": label} for label in labels))
    found = folds_of(made, folds)
    assert set(found) == {case.id for case in made}
    for value in set(labels):
        sizes = Counter(found[case.id] for case in made if case.labels["tear"] == value)
        counts = [sizes[fold] for fold in range(folds)]
        assert max(counts) - min(counts) <= 1
    sizes = Counter(found.values())
    assert max(sizes[f] for f in range(folds)) - min(sizes[f] for f in range(folds)) <= len(set(labels))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=40, max_size=80), st.randoms())
@settings(max_examples=50)
def test_folds_follow_from_ids_and_labels_whatever_the_order(labels: list[tuple[bool, bool]], random: object) -> None:
    made = cases(*({"acl": int(a), "meniscus": int(b)} for a, b in labels))
    shuffled = list(made)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random
    assert folds_of(made, 5) == folds_of(shuffled, 5)


def test_all_tasks_are_stratified_at_once() -> None:
    rng = np.random.default_rng(0)
    labels = [
        {"acl": int(a < 0.2), "meniscus": int(b < 0.35), "abnormal": int(c < 0.8)} for a, b, c in rng.random((300, 3))
    ]
    made = cases(*labels)
    found = folds_of(made, 5)
    assert set(Counter(found.values()).values()) <= {59, 60, 61}
    for task in ("acl", "meniscus", "abnormal"):
        counts = Counter(found[case.id] for case in made if case.labels[task] == 1)
        assert max(counts.values()) - min(counts.values()) <= 3


def test_unlabelled_cases_are_in_no_fold_and_keep_their_split() -> None:
    made = [*cases({"acl": 0}, {"acl": 1}, {"acl": 0}, {"acl": 1}), Case("new", "train", "new.npy", {})]
    assert set(folds_of(made, 2)) == {"0000", "0001", "0002", "0003"}
    assert training_volumes(made, 2, 0) == 3
    assert training_volumes(made, None, 0) == 5


@given(st.lists(st.integers(0, 1), min_size=12, max_size=40), FOLDS)
def test_cases_of_planes_that_are_all_there_have_the_folds_of_one_plane(labels: list[int], folds: int) -> None:
    made = cases(*({"tear": label} for label in labels))
    assert folds_of(joined([made, made[::-1]]), folds) == folds_of(made, folds) == folds_of(joined([made]), folds)


def test_an_exam_is_in_the_same_fold_in_planes_that_each_lack_another_exam(tmp_path: Path) -> None:
    rng, stores = np.random.default_rng(0), {}
    for number, name in enumerate(("axial", "coronal", "sagittal")):
        root = tmp_path / name
        root.mkdir()
        rows = ["path,tear,split"]
        for i in (i for i in range(17) if i != 3 * number):  # 0, 3 and 6 are lacking
            np.save(root / f"v{i:02d}.npy", rng.random((4, 6, 7)).astype(np.float32))
            rows.append(f"v{i:02d}.npy,{i % 2},train")
        (root / "labels.csv").write_text("\n".join(rows) + "\n")
        stores[name] = pack(open_dataset("folder", root), tmp_path / f"packed-{name}", splits=())
    alone = [folds_of(store.manifest.cases, 4) for store in stores.values()]
    assert any(a[id] != b[id] for a in alone for b in alone for id in set(a) & set(b))  # there is something to mend
    run, tested = Stores(stores), {}
    for name in stores:
        for fold in range(4):
            view = run.view(DataRecipe(name="folder", plane=name, task="tear", folds=4, fold=fold))
            for id in view.ids(view.indices("test")):
                tested.setdefault(id, []).append(fold)
    assert len(tested) == 17
    assert all(len(set(found)) == 1 and len(found) in {2, 3} for found in tested.values())


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of volumes without a test split, one of them unlabelled."""
    root, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    rows = ["path,tear,split"]
    for i in range(17):
        np.save(root / f"v{i:02d}.npy", rng.random((5, 17, 18)).astype(np.float32))
        rows.append(f"v{i:02d}.npy,{'' if i == 16 else i % 2},train")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def test_views_share_out_the_labelled_volumes_and_nothing_else_changes(own: Path, tmp_path: Path) -> None:
    store = pack(open_dataset("folder", own), tmp_path / "store", splits=())
    views = [fold_view(store, 4, fold) for fold in range(4)]
    tested = [view.ids(view.indices("test")) for view in views]
    assert sorted(id for ids in tested for id in ids) == store.ids(range(16))
    for view, ids in zip(views, tested, strict=True):
        assert set(view.ids(view.indices("train"))) == {*store.ids(range(17))} - set(ids)
        assert view.labels("tear", view.labelled("test", "tear")).tolist().count(1) == 2
        assert view.fingerprint == store.fingerprint
        assert (view.volumes([3]).voxels[0] == store.volumes([3]).voxels[0]).all()
    assert store.indices("test") == []
    assert Store.open(tmp_path / "store").fingerprint == store.fingerprint


def test_a_fold_without_a_class_is_refused_with_what_to_do(own: Path, tmp_path: Path) -> None:
    store = pack(open_dataset("folder", own), tmp_path / "store", splits=())
    check_folds(store, "tear", 8)
    with pytest.raises(DataError, match=r"fold \d of 9 has no case of class 0 of 'tear', of which there are 8; choose"):
        check_folds(store, "tear", 9)


def test_data_without_a_test_split_are_told_of_folds(own: Path) -> None:
    with pytest.raises(DataError, match=r"has no case in the split 'test'; .* --folds K"):
        planned(open_dataset("folder", own))


def test_a_run_with_folds_tests_every_labelled_case_once_a_seed(own: Path, tmp_path: Path) -> None:
    changes = {"data__name": "folder", "data__folds": 3, "pretrain__epochs": 1, "seeds": (0, 1)}
    outcome = small_run(own, tmp_path / "run", **changes)
    assert outcome.failures == {}
    board = read_table(tmp_path / "run/leaderboard.csv", COLUMNS)
    assert set(board["folds"]) == {3}
    assert set(board["n_test"]) == {16}
    assert set(board["seeds"]) == {2}
    tested: dict[tuple[str, int], list[str]] = {}
    for folder in (tmp_path / "run/cells").iterdir():
        result, predictions = read_result(folder)
        assert predictions is not None
        test = set(predictions["case"])
        train = set(pd.read_csv(folder / "training.csv", dtype={"case": "str"})["case"])
        assert not test & train
        assert result.data is not None
        assert result.data.n_test == len(test)
        store = Store.open(tmp_path / "run/store")
        assert same_test(result, predictions, fold_view(store, 3, result.recipe.data.fold))
        assert not same_test(result, predictions, fold_view(store, 3, (result.recipe.data.fold + 1) % 3))
        tested.setdefault((result.recipe.method, result.recipe.seed), []).extend(test)
    assert len(tested) == 4
    assert {tuple(sorted(ids)) for ids in tested.values()} == {tuple(f"v{i:02d}.npy" for i in range(16))}
    aucs = pd.read_csv(tmp_path / "run/cells.csv").query("protocol == 'linear' and method == 'byol'")["auc"]
    row = board.query("protocol == 'linear' and method == 'byol'").iloc[0]
    assert row["auc"] == pytest.approx(aucs.mean())
    assert "3-fold cross-validation" in (tmp_path / "run/leaderboard.md").read_text()

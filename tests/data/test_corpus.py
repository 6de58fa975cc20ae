"""What encoders are pretrained on, and what never is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssl3d.data.corpus import Corpus
from ssl3d.data.folds import fold_view
from ssl3d.data.pack import pack
from ssl3d.data.store import Store
from ssl3d.dataset import Case
from ssl3d.errors import DataError
from ssl3d.task import Target, Task
from tests.data.arrays import AGE, FINDING, TEAR, of_cases

CPU = torch.device("cpu")
LABELS = frozenset({"labels"})


def knees(folder: Path, name: str = "knees", tasks: tuple[Task, ...] = (TEAR,), seed: int = 0, **changes: str) -> Store:
    """Cases of every split; P1 has two; ``changes`` name the patient of a case."""
    targets: dict[str, Target] = {"tear": 1} if TEAR in tasks else {}
    made = [
        Case("a", "train", "", "P1", targets=targets),
        Case("b", "train", "", "P1"),
        Case("c", "unlabelled", "", "P2", targets=targets),
        Case("d", "val", "", "P3", targets=targets),
        Case("e", "test", "", "P4", targets=targets),
    ]
    made = [replace(case, patient=changes.get(case.id, case.patient)) for case in made]
    return pack(of_cases(made, name, tasks, seed), folder / name, splits=())


def ids(corpus: Corpus) -> list[str]:
    return [corpus.stores[number].ids([index])[0] for number, index in corpus.places]


def test_only_training_volumes_are_in_a_corpus(tmp_path: Path) -> None:
    store = knees(tmp_path)
    corpus = Corpus.of([store], exclude=[store])
    assert (ids(corpus), len(corpus), corpus.excluded) == (["a", "b", "c"], 3, 0)
    batch = corpus.volumes([2, 0], CPU)
    expected = store.volumes([2, 0])
    assert all(torch.equal(a, b) for a, b in zip(batch.voxels, expected.voxels, strict=True))
    assert torch.equal(batch.mean, expected.mean)


@pytest.mark.parametrize(
    ("evaluated", "left", "excluded"),
    [
        ({"name": "knees", "e": "P1"}, ["c"], 2),  # the same data set: both volumes of the tested patient
        ({"name": "knees coronal", "e": "P1"}, ["a", "b", "c"], 0),  # of another family: names say nothing
        ({"name": "hips", "seed": 1}, ["a", "b", "c"], 0),
    ],
)
def test_patients_who_are_tested_on_in_the_same_data_set_are_left_out(
    tmp_path: Path, evaluated: dict[str, str], left: list[str], excluded: int
) -> None:
    other = knees(tmp_path / "evaluated", **{"seed": 5, **evaluated})  # type: ignore[arg-type]
    corpus = Corpus.of([knees(tmp_path)], exclude=[other])
    assert (ids(corpus), corpus.excluded) == (left, excluded)


def test_patients_are_the_same_in_every_plane(tmp_path: Path) -> None:
    planes = []
    for number, plane in enumerate(("axial", "coronal")):
        data = of_cases([Case("0", "train", ""), Case("1", "train", "")], f"mrnet {plane}", seed=number)
        data.plane = plane
        planes.append(pack(data, tmp_path / plane, splits=()))
    tested = planes[1].with_splits(["train", "test"])
    assert planes[0].manifest.family == "mrnet"
    assert ids(Corpus.of([planes[0]], exclude=[tested])) == ["0"]


def test_volumes_that_are_tested_on_in_any_data_set_are_left_out_by_their_bytes(tmp_path: Path) -> None:
    first = of_cases([Case("a", "train", ""), Case("b", "unlabelled", "")], "first")
    second = of_cases([Case("x", "test", ""), Case("y", "train", "")], "second", seed=1)
    second._volumes["x"] = first._volumes["b"]
    second._volumes["y"] = first._volumes["a"]  # in training only: stays
    stores = [pack(first, tmp_path / "1", splits=()), pack(second, tmp_path / "2", splits=())]
    corpus = Corpus.of(stores, exclude=[stores[1]])
    assert (ids(corpus), corpus.excluded, corpus.name) == (["a", "y"], 1, "first + second")
    assert ids(Corpus.of(stores)) == ["a", "b", "y"]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 6), min_size=12, max_size=20), st.lists(st.integers(0, 9), min_size=20, max_size=20))
def test_no_fold_is_pretrained_on_its_test_patients_or_their_volumes(
    tmp_path_factory: pytest.TempPathFactory, patients: list[int], content: list[int]
) -> None:
    made = [
        Case(f"{i}", "train", "", f"P{p}", targets={"tear": i % 2} if i % 3 else {}) for i, p in enumerate(patients)
    ]
    data = of_cases(made)
    for index, case in enumerate(made):
        data._volumes[case.id] = np.full((1, 2, 3, 4), content[index], np.uint8)
    store = pack(data, tmp_path_factory.mktemp("folds"), splits=())
    for fold in range(2):
        try:
            view = fold_view(store, 2, fold)
            corpus = Corpus.of([view], exclude=[view])
        except DataError:  # too few patients, or all of them are left out
            continue
        tested = view.indices("test")
        trained = [index for _, index in corpus.places]
        assert not set(view.patients(tested)) & set(view.patients(trained))
        assert not {content[index] for index in tested} & {content[index] for index in trained}
        assert len(trained) + corpus.excluded + len(tested) == len(made)


def test_rows_are_labels_patients_and_cases_of_those_who_declare_them(tmp_path: Path) -> None:
    corpus = Corpus.of([knees(tmp_path)], needs=frozenset({"labels", "patient", "case"}), task="tear")
    rows = corpus.rows(["labels", "patient", "case"], [2, 0, 1], CPU)
    assert {name: (row.dtype, row.tolist()) for name, row in rows.items()} == {
        "labels": (torch.int64, [-1, 1, -1]),  # "c" is called unlabelled by its data set, "b" has none
        "patient": (torch.int64, [1, 0, 0]),
        "case": (torch.int64, [2, 0, 1]),
    }
    assert corpus.task == TEAR
    silent = Corpus.of([knees(tmp_path)], task="tear")
    assert silent.task is None
    for name in ("labels", "patient", "case"):
        with pytest.raises(ValueError, match=f"the row '{name}' was not declared"):
            silent.rows([name], [0], CPU)


@pytest.mark.parametrize(
    ("task", "target", "expected"),
    [
        (FINDING, (1, 0, 1), [[1.0, 0.0, 1.0], [None] * 3]),
        (AGE, 40.5, [40.5, None]),
        (TEAR, 0, [0, -1]),
    ],
)
def test_unknown_labels_are_minus_one_or_nan(tmp_path: Path, task: Task, target: Target, expected: object) -> None:
    made = [Case("a", "train", "", targets={task.name: target}), Case("b", "train", "")]
    store = pack(of_cases(made, tasks=(task,)), tmp_path / "store", splits=())
    labels = Corpus.of([store], needs=LABELS, task=task.name).rows(["labels"], [0, 1], CPU)["labels"]
    assert np.array(labels.tolist()) == pytest.approx(np.array(expected, float), nan_ok=True)
    assert labels.dtype == (torch.int64 if task is TEAR else torch.float32)


def test_patients_of_data_sets_are_numbered_apart_unless_they_are_of_one_family(tmp_path: Path) -> None:
    stores = [knees(tmp_path / str(i), name, seed=i) for i, name in enumerate(("knees", "hips", "knees"))]
    rows = Corpus.of(stores, needs=frozenset({"patient"})).rows(["patient"], range(9), CPU)
    assert rows["patient"].tolist() == [0, 0, 1, 2, 2, 3, 0, 0, 1]


def fingerprint(folder: Path, needs: frozenset[str] = frozenset(), **options: object) -> str:
    store = knees(folder, **options)  # type: ignore[arg-type]
    return Corpus.of([store], needs=needs, task="tear" if "labels" in needs else None).fingerprint


def test_labels_and_patients_count_only_for_methods_that_see_them(tmp_path: Path) -> None:
    plain = fingerprint(tmp_path / "1")
    assert fingerprint(tmp_path / "2", a="P9", name="other") == plain  # a patient and names change nothing
    assert fingerprint(tmp_path / "3", seed=1) != plain
    grouped, moved = (fingerprint(tmp_path / f"4{a}", frozenset({"patient"}), a=a) for a in ("P1", "P9"))
    assert len({plain, grouped, moved}) == 3
    assert fingerprint(tmp_path / "5", frozenset({"patient"}), a="Q", b="Q") == grouped  # the same groups
    labelled = fingerprint(tmp_path / "6", LABELS)
    assert labelled not in {plain, grouped}
    store = knees(tmp_path / "7", tasks=(TEAR, AGE))
    assert Corpus.of([store], needs=LABELS, task="tear").fingerprint == labelled
    assert Corpus.of([store], needs=LABELS, task="age").fingerprint != labelled


def test_the_fingerprint_is_that_of_what_is_left(tmp_path: Path) -> None:
    store = knees(tmp_path)
    tested = store.with_splits(["train", "train", "test", "val", "test"])
    assert Corpus.of([store], exclude=[tested]).fingerprint == Corpus.of([tested]).fingerprint
    assert Corpus.of([store]).fingerprint != Corpus.of([tested]).fingerprint


def test_a_task_must_be_the_same_wherever_it_is_labelled(tmp_path: Path) -> None:
    other = Task(name="tear", kind="multiclass", classes=("none", "partial", "full"))
    stores = [knees(tmp_path, "knees"), knees(tmp_path, "hips", tasks=(AGE,), seed=1)]
    rows = Corpus.of(stores, needs=LABELS, task="tear").rows(["labels"], range(6), CPU)
    assert rows["labels"].tolist() == [1, -1, -1, -1, -1, -1]
    data = of_cases([Case("a", "train", "")], "spines", (other,), seed=2)
    with pytest.raises(DataError, match=r"'tear' has other classes in spines \(none, partial, full\) than in knees"):
        Corpus.of([*stores, pack(data, tmp_path / "spines", splits=())], needs=LABELS, task="tear")
    with pytest.raises(DataError, match="did you mean 'tear'"):
        Corpus.of(stores, needs=LABELS, task="tea")
    with pytest.raises(DataError, match="needs labels, and no task"):
        Corpus.of(stores, needs=LABELS)


def test_a_corpus_without_volumes_or_with_different_channels_is_refused(tmp_path: Path) -> None:
    store = knees(tmp_path)
    with pytest.raises(DataError, match=r"no volume to pretrain on: add volumes to the split 'train'"):
        Corpus.of([store.with_splits(["val"] * 5)])
    with pytest.raises(DataError, match="no volume to pretrain on; 2 are left out"):
        Corpus.of([store.with_splits(["train"] * 2 + ["val"] * 3)], exclude=[store.with_splits(["test"] * 5)])
    data = of_cases([Case("a", "train", "")], "two", seed=1)
    data._volumes["a"] = np.zeros((2, 3, 4, 5), np.uint8)
    with pytest.raises(DataError, match=r"knees \+ two mixes volumes with 1 and 2 channels"):
        Corpus.of([store, pack(data, tmp_path / "two", splits=())])


def test_the_resident_corpus_gives_the_same_batches(tmp_path: Path) -> None:
    stores = [knees(tmp_path, "knees"), knees(tmp_path, "hips", seed=1)]
    corpus = Corpus.of([*stores, stores[0]], needs=LABELS, task="tear")
    resident = corpus.resident(CPU)
    assert resident.stores[0] is resident.stores[2]
    streamed, held = (source.volumes([5, 0, 7, 7], CPU) for source in (corpus, resident))
    assert all(torch.equal(a, b) for a, b in zip(streamed.voxels, held.voxels, strict=True))
    assert torch.equal(streamed.std, held.std)
    assert resident.fingerprint == corpus.fingerprint

"""What is refused before a voxel is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ssl3d.data.pack import pack
from ssl3d.dataset import Case
from ssl3d.errors import DataError
from ssl3d.task import Target, Targets, Task
from tests.data.arrays import (
    AGE,
    FINDING,
    GRADE,
    SHAPES,
    TEAR,
    arrays,
    of_cases,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_set_without_cases_to_train_or_test_on_is_refused_before_anything_is_written(
    folder: Path, split: str
) -> None:
    data = arrays(SHAPES)
    data._cases = [case for case in data._cases if case.split != split]
    with pytest.raises(DataError, match=f"no case in the split '{split}'"):
        pack(data, folder)
    assert not folder.exists()


def test_ids_must_be_unique_and_targets_of_known_tasks(folder: Path) -> None:
    twice = arrays(SHAPES)
    twice._cases[2] = twice._cases[0]
    with pytest.raises(DataError, match="case '000' exists already"):
        pack(twice, folder)
    strange = arrays(SHAPES)
    strange._cases[2] = replace(strange._cases[2], targets={"age": 1})
    with pytest.raises(DataError, match=r"memory/002: .*'age', which is not a task"):
        pack(strange, folder)
    alike = of_cases(arrays(SHAPES).cases(), tasks=(TEAR, TEAR))
    with pytest.raises(DataError, match="two tasks of one name"):
        pack(alike, folder)


WRONG_TARGETS = {
    "class": [(GRADE, 4), (GRADE, -1), (TEAR, 1.0), (TEAR, True), (TEAR, np.int64(1)), (GRADE, 1_000_000_000)],
    "labels": [(FINDING, 1), (FINDING, (0, 1)), (FINDING, (0, 1, 2)), (FINDING, (0, 1, 1.0))],
    "number": [(AGE, 3), (AGE, float("nan")), (AGE, "3")],
}


@pytest.mark.parametrize(("task", "target"), [pair for pairs in WRONG_TARGETS.values() for pair in pairs])
def test_a_target_that_its_task_does_not_allow_is_refused_before_anything_is_read(
    folder: Path, task: Task, target: Target
) -> None:
    data = of_cases(
        [Case("a", "train", "a.nii"), Case("b", "test", "b.nii", targets={task.name: target})], tasks=(task,)
    )
    with pytest.raises(DataError, match=rf"b\.nii: the target .* of '{task.name}' is not"):
        pack(data, folder)
    assert data.reads == []


def test_targets_of_every_kind_come_back(folder: Path) -> None:
    tasks = (TEAR, GRADE, FINDING, AGE)
    first: Targets = {"tear": 1, "grade": 3, "finding": (1, 0, 1), "age": 40.0}
    store = pack(of_cases([Case("a", "train", "a", targets=first), Case("b", "test", "b")], tasks=tasks), folder)
    assert store.tasks == tasks
    assert store.manifest.cases[0].targets == first
    assert store.targets("finding", [0]).tolist() == [[1, 0, 1]]
    assert store.targets("finding", []).shape == (0, 3)
    age = store.targets("age", [0])
    assert (age.dtype.name, age.tolist()) == ("float64", [40.0])
    assert store.labelled("test", "age") == []


def test_a_patient_in_both_splits_is_refused_unless_folds_take_their_place(folder: Path) -> None:
    data = of_cases(
        [
            Case("a", "train", "a.nii", patient="P07"),
            Case("b", "test", "b.nii", patient="P07"),
            Case("c", "unlabelled", "c.nii", patient="P07"),
            Case("d", "test", "d.nii", patient="P08"),
        ]
    )
    message = r"patient P07 is in train \(a\.nii\) and test \(b\.nii\); move one, or cross-validate with --folds K$"
    with pytest.raises(DataError, match=message):
        pack(data, folder)
    assert pack(data, folder, splits=()).patients([0, 1]) == ["P07", "P07"]


@pytest.mark.parametrize("sign", ["\r", "\n", "\0", "\x1b", "\x85", "\ud800"])
def test_an_id_with_an_invisible_character_is_refused(folder: Path, sign: str) -> None:
    data = arrays(SHAPES)
    data._cases[1] = replace(data._cases[1], id=f"a{sign}b")
    with pytest.raises(DataError, match="has an invisible character; rename it") as caught:
        pack(data, folder)
    assert str(caught.value).isprintable()
    assert not folder.exists()

"""What is found wrong with a data set, or noteworthy."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ssl3d.data.check import check
from ssl3d.data.faults import DataFaultsError, Fault, folded
from ssl3d.data.pack import pack
from ssl3d.data.sets.folder import Folder
from ssl3d.dataset import Case, Volume
from ssl3d.task import Targets, Task
from tests.data.arrays import AGE, FINDING, TEAR, Arrays, of_cases

GRADE = Task(name="grade", kind="ordinal", classes=("mild", "severe"))


def sound() -> Arrays:
    """Two patients to train on, of two volumes each, and two to test on; every kind of task."""
    made = []
    for i in range(6):
        targets: Targets = {"tear": i % 2, "grade": i % 2, "finding": (i % 2, 0, 1), "age": 40.0 + i}
        made.append(
            Case(f"{i}", "train" if i < 4 else "test", f"{i}.nii", f"P{min(i // 2 if i < 4 else i, 5)}", "", targets)
        )
    return of_cases(made, tasks=(TEAR, GRADE, FINDING, AGE))


def test_a_sound_data_set_is_summed_up() -> None:
    checked = check(sound())
    assert checked.faults == checked.notes == ()
    assert checked.summary == (
        "arrays: 6 volumes (train 4, test 2)",
        "patients: 4 (train 2, test 2)",
        "task tear (binary): train no: 2, yes: 2; test no: 1, yes: 1",
        "task grade (ordinal): train mild: 2, severe: 2; test mild: 1, severe: 1",
        "task finding (multilabel): train 4, of them edema: 2, effusion: 0, cyst: 4; "
        "test 2, of them edema: 1, effusion: 0, cyst: 2",
        "task age (regression): train 4 from 40 to 43 years; test 2 from 44 to 45 years",
    )


def test_faults_of_tables_are_found_before_volumes_are_read() -> None:
    data = sound()
    data._cases += [Case("0", "test", "again.nii"), Case("x", "test", "x.nii", "P0", targets={"tear": 2})]
    checked = check(data)
    assert data.reads == []
    assert checked.summary == ()
    assert [fault.split(":")[0] for fault in checked.faults] == ["again.nii", "x.nii", "arrays"]
    assert "patient P0 is in train (0.nii) and test (x.nii)" in checked.faults[2]


def test_every_volume_with_a_fault_is_listed() -> None:
    data = sound()
    data._volumes["1"] = data._volumes["1"][0]
    data._volumes["3"] = data._volumes["3"].astype(np.float32)
    data._volumes["4"] = (data._volumes["4"] / 255).astype(np.float16)
    faults = check(data).faults
    assert [fault.split(" ")[0] for fault in faults] == ["1.nii", "3.nii", "4.nii"]
    assert "4.nii was read as float16, others as uint8" in faults[2]


def test_volumes_with_the_same_voxels_are_noted_across_splits_and_patients() -> None:
    data = sound()
    data._volumes["5"] = data._volumes["0"]  # test and train
    data._volumes["3"] = data._volumes["2"]  # two of one patient: not worth a note
    (note,) = check(data).notes
    assert note == (
        "2 volumes have the same voxels: 0 (train), 5 (test); no encoder is pretrained on them, but scores are too "
        "high: keep one of them"
    )
    data._volumes["2"] = data._volumes["1"]  # two patients to train on
    assert "2 volumes have the same voxels: 1 (train), 2 (train); keep one of them" in check(data).notes


@pytest.mark.parametrize(
    ("split", "remove", "words"),
    [
        ("train", 1, "class 'yes' of 'tear' has no training case"),
        ("test", 1, "the test split has only cases of class 'no' of 'tear', so that no AUC can be computed"),
        ("test", None, "the test split has no case with a target of 'tear'"),
    ],
)
def test_classes_that_a_split_lacks_are_noted(split: str, remove: int | None, words: str) -> None:
    made = [Case(f"{i}", "train" if i < 4 else "test", "", targets={"tear": i % 2}) for i in range(8)]
    for index, case in enumerate(made):
        if case.split == split and remove in {None, case.targets["tear"]}:
            made[index] = Case(case.id, case.split, "")
    notes = check(of_cases(made)).notes
    assert any(words in note for note in notes), notes
    assert check(of_cases(made), folds=2).notes == ()


def test_a_volume_of_few_slices_among_many_is_noted() -> None:
    data = sound()
    for index in range(6):
        data._volumes[f"{index}"] = np.random.default_rng(index).integers(0, 9, (1, 20, 3, 4), np.uint8)
    data._volumes["2"] = data._volumes["2"][:, :4]
    assert check(data).notes == ("2.nii has 4 slices where the median is 20; check that it is complete",)
    data._volumes["2"] = np.random.default_rng(2).integers(0, 9, (1, 6, 3, 4), np.uint8)
    assert check(data).notes == ()


def test_with_folds_no_split_is_needed_and_every_fold_must_have_every_class() -> None:
    made = [Case(f"{i}", "train", f"{i}.nii", "P0" if i < 2 else "", targets={"tear": int(i < 4)}) for i in range(8)]
    assert "no case in the split 'test'" in check(of_cases(made)).faults[0]
    assert check(of_cases(made), folds=3).faults == ()
    (fault,) = check(of_cases(made), folds=4).faults
    assert "3 patients have a case of class 'yes' of 'tear', too few for 4 folds; choose fewer --folds" in fault


def test_progress_is_reported_volume_by_volume() -> None:
    steps: list[tuple[int, int]] = []
    check(sound(), progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 6) for done in range(1, 7)]


def test_faults_alike_are_one_line_from_the_fourth_on() -> None:
    faults = [Fault(f"row {row}", "no such split") for row in range(3)]
    assert folded(faults) == [str(fault) for fault in faults] == [f"row {row}: no such split" for row in range(3)]
    faults += [Fault("row 3", "no such split"), Fault("row 9", "no such label")]
    assert folded(faults) == ["row 0 and 3 more like it: no such split", "row 9: no such label"]
    assert str(DataFaultsError(faults)) == (
        "row 0 and 3 more like it: no such split (and 1 more: `ssl3d data check` lists them all)"
    )


def test_volumes_with_the_same_fault_are_one_line_from_the_fourth_on(tmp_path: Path) -> None:
    for index in range(60):
        (tmp_path / f"v{index}.npy").write_bytes(b"")
    np.save(tmp_path / "v59.npy", np.zeros((2, 3, 4)))
    (tmp_path / "labels.csv").write_text(
        "path,x,split\n" + "".join(f"v{i}.npy,{i % 2},{('train', 'test')[i // 30]}\n" for i in range(60))
    )
    first, second = check(Folder(tmp_path)).faults
    assert first.startswith("v0.npy (labels.csv row 2) is not a plain .npy file")
    assert first.endswith(" (and 58 more volumes like it)")
    assert second.startswith("v59.npy (labels.csv row 61) is constant")


def test_a_volume_that_does_not_fit_in_memory_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    data = sound()

    def read(case: Case) -> Volume:
        if case.id == "3":
            raise MemoryError
        return Arrays.read(data, case)

    monkeypatch.setattr(data, "read", read)
    assert check(data).faults == ("3.nii does not fit in memory; make the volume smaller, or use a larger machine",)


def test_five_thousand_folds_are_refused_at_once() -> None:
    made = [Case(f"{i}", "train", f"{i}.nii", targets={"tear": i % 2}) for i in range(5000)]
    start = time.perf_counter()
    (fault,) = check(of_cases(made), folds=5000).faults
    assert "2500 patients have a case of class 'no' of 'tear', too few for 5000 folds" in fault
    assert time.perf_counter() - start < 2


def test_checking_loads_no_torch() -> None:
    modules = (
        "ssl3d.cli.data, ssl3d.data.check, ssl3d.data.sets.folder, ssl3d.data.sets.mrnet, ssl3d.run.planning.datasets"
    )
    program = f"import sys, {modules}; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_store_of_every_kind_of_task_is_packed_as_it_was_checked(tmp_path: Path) -> None:
    assert check(sound()).faults == ()
    assert len(pack(sound(), tmp_path / "store")) == 6

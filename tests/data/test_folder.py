"""The table of a folder of volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssl3d.data.check import check
from ssl3d.data.check_cases import checked_cases
from ssl3d.data.pack import pack
from ssl3d.data.sets.folder import Folder
from ssl3d.errors import DataError
from ssl3d.task import Task
from tests.data.scans import GREY, Spoil, rows

TABLE_FAULTS: dict[str, tuple[Spoil, list[str]]] = {
    "no table": (lambda root: (root / "labels.csv").unlink(), ["labels.csv", "absent", "column 'path'"]),
    "empty table": (rows(""), ["labels.csv", "empty"]),
    "header only": (rows("path,x,split\n"), ["labels.csv", "no volumes"]),
    "no header": (rows("a.nii.gz,0,train\n"), ["labels.csv row 1", "without a column 'path'"]),
    "column twice": (rows("path,x,X,split\na.nii.gz,0,0,train\n"), ["labels.csv row 1", "twice"]),
    "no name": (rows("path,x,,split\na.nii.gz,0,0,train\n"), ["labels.csv row 1", "column 3 has no name"]),
    "short row": (rows("path,x,split\n\na.nii.gz,0\n"), ["labels.csv row 3 (a.nii.gz)", "2 fields"]),
    "bad split": (rows("path,x,split\na.nii.gz,0,trial\n"), ["labels.csv row 2 (a.nii.gz)", "'trial'", "unlabelled"]),
    "twice": (rows("path,x,split\nc.npy,0,train\n./c.npy,0,test\n"), ["labels.csv row 3", "c.npy", "row 2"]),
    "absent": (rows("path,x,split\nz.npy,0,train\n"), ["labels.csv row 2", "z.npy", "absent"]),
    "wrong type": (rows("path,x,split\nlabels.csv,0,train\n"), ["labels.csv row 2", "convert"]),
    "quote": (rows('path,x,split\n"a.nii.gz,0,train\n'), ["labels.csv", "CSV"]),
    "not UTF-8": (lambda root: (root / "labels.csv").write_bytes("path,x\n".encode("utf-16")), ["labels.csv", "UTF-8"]),
    "exam of two": (
        rows("path,x,split,patient,exam\na.nii.gz,0,train,P1,E1\nb.nii,1,train,P2,E1\n"),
        ["labels.csv row 3 (b.nii)", "exam 'E1' is of patient 'P1'"],
    ),
}


@pytest.mark.parametrize("fault", TABLE_FAULTS)
def test_a_fault_of_the_table_is_reported_with_file_and_row(root: Path, fault: str) -> None:
    spoil, words = TABLE_FAULTS[fault]
    spoil(root)
    with pytest.raises(DataError) as caught:
        Folder(root).cases()
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("path", ["../c.npy", "/etc/c.npy", "x/../../c.npy", "C:\\c.npy", "..\\c.npy", "\\c.npy", ""])
def test_paths_must_stay_inside_the_root(root: Path, path: str) -> None:
    np.save(root.parent / "c.npy", GREY)
    rows(f"path,x,split\n{path},0,train\n")(root)
    with pytest.raises(DataError, match=r"labels\.csv row 2.*inside the root"):
        Folder(root).cases()


@pytest.mark.parametrize("table", ["../other.csv", "/etc/passwd"])
def test_the_table_must_lie_inside_the_root(root: Path, table: str) -> None:
    with pytest.raises(DataError, match="outside the root"):
        Folder(root, variant=table)


def test_an_absolute_path_inside_the_root_is_that_path_in_the_root(root: Path) -> None:
    rows(f"path,x,split\n{root}/c.npy,0,train\n{root}/sub/../c.npy,1,test\n")(root)
    assert len(check(Folder(root)).faults) == 1
    rows(f"path,x,split\n{root}/c.npy,0,train\n{root}/b.nii,1,test\n")(root)
    data = Folder(root)
    assert [case.id for case in data.cases()] == ["c.npy", "b.nii"]
    assert data.read(data.cases()[0]).voxels.shape == (1, 5, 9, 14)


def test_another_table_can_be_chosen_and_unlisted_volumes_are_ignored(root: Path) -> None:
    (root / "few.csv").write_bytes(b"\xef\xbb\xbfsplit,x,path\r\ntest,1,c.npy")
    data = Folder(root, variant="few.csv")
    assert [(case.id, case.split, case.targets) for case in data.cases()] == [("c.npy", "test", {"x": 1})]
    assert (data.name, data.family) == ("folder scans:few.csv", "folder scans")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_may_be_separated_by_commas_semicolons_or_tabs(root: Path, delimiter: str) -> None:
    expected = Folder(root).cases()
    table = (root / "labels.csv").read_text()
    rows(table.replace(",", delimiter))(root)
    assert Folder(root).cases() == expected
    assert expected[0].targets == {"tumour": 0, "grade": 1}


def test_an_unknown_label_is_left_out_of_its_case_only(root: Path) -> None:
    data = Folder(root)
    assert data.tasks == (Task(name="tumour"), Task(name="grade", classes=("0", "2")))
    assert [case.targets for case in data.cases()] == [
        {"tumour": 0, "grade": 1},
        {"tumour": 1},
        {"tumour": 1, "grade": 0},
    ]


def test_a_fault_of_many_rows_is_one_line_with_their_number(root: Path) -> None:
    for index in range(60):
        np.save(root / f"v{index}.npy", GREY)
    rows(
        "path,x,split\n" + "".join(f"v{index}.npy,{index % 2},{'trial' if index else 'train'}\n" for index in range(60))
    )(root)
    faults = check(Folder(root)).faults
    assert faults == (
        "labels.csv row 3 (v1.npy) and 58 more like it: split 'trial' is not one of train, val, test, unlabelled; "
        "correct it",
    )


def test_patients_exams_and_what_describes_them_are_not_labels(root: Path) -> None:
    rows(
        "path,Patient,exam,age,Sex,site,x,split\na.nii.gz,P1,E1,61,f,2,0,train\nb.nii,P1,E2,61,f,2,1,train\n"
        "c.npy,,E3,70,m,1,1,Test\n"
    )(root)
    data = Folder(root)
    assert [task.name for task in data.tasks] == ["x"]
    assert [(case.patient, case.exam, case.split) for case in data.cases()] == [
        ("P1", "E1", "train"),
        ("P1", "E2", "train"),
        ("E3", "E3", "test"),
    ]
    assert data.knows_patients


def test_without_patients_each_volume_is_one_and_an_exam_keeps_its_volumes_together(root: Path) -> None:
    assert not Folder(root).knows_patients
    assert [case.patient for case in Folder(root).cases()] == ["a.nii.gz", "b.nii", "c.npy"]
    rows("path,exam,x,split\na.nii.gz,E1,0,train\nb.nii,E1,1,train\n")(root)
    assert [case.patient for case in Folder(root).cases()] == ["E1", "E1"]


def test_what_describes_a_patient_is_a_label_where_the_header_says_so(root: Path) -> None:
    rows("path,age:regression(years),split\na.nii.gz,61.5,train\nb.nii,70,test\n")(root)
    assert Folder(root).tasks == (Task(name="age", kind="regression", classes=(), unit="years"),)
    assert [case.targets for case in Folder(root).cases()] == [{"age": 61.5}, {"age": 70.0}]
    rows("path,patient:binary,split\na.nii.gz,1,train\n")(root)
    with pytest.raises(DataError, match="'patient' cannot be a label"):
        Folder(root).cases()


@pytest.mark.parametrize("split", ["unlabelled", "pretrain", "unlabeled", "Unlabelled"])
def test_volumes_for_pretraining_alone(root: Path, split: str) -> None:
    rows(f"path,x,split\na.nii.gz,0,train\nb.nii,1,test\nc.npy,,{split}\n")(root)
    assert [case.split for case in Folder(root).cases()] == ["train", "test", "unlabelled"]


def test_a_table_without_labels_or_splits_is_a_corpus(root: Path, tmp_path: Path) -> None:
    rows("path\na.nii.gz\nb.nii\n")(root)
    store = pack(Folder(root), tmp_path / "store", splits=())
    assert (store.tasks, store.indices("unlabelled")) == ((), [0, 1])


def test_without_a_split_column_folds_take_its_place(root: Path, tmp_path: Path) -> None:
    rows("path,x\na.nii.gz,0\nb.nii,1\nc.npy,\n")(root)
    with pytest.raises(DataError, match=r"no case in the split 'test'; .*--folds"):
        pack(Folder(root), tmp_path / "store")
    store = pack(Folder(root), tmp_path / "store", splits=())
    assert [case.split for case in store.manifest.cases] == ["train", "train", "unlabelled"]


def test_no_root_an_absent_root_and_a_plane_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs --root"):
        Folder()
    with pytest.raises(DataError, match="nowhere is not a folder"):
        Folder(tmp_path / "nowhere").cases()
    with pytest.raises(DataError, match="no planes"):
        Folder(tmp_path, "axial")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(["path", "split", "patient", "x", "x:binary", "y:multilabel(f)", "z:regression", ":", "x:("])
        | st.text("abx:(<)", max_size=6),
        max_size=5,
    ),
    st.lists(
        st.lists(
            st.sampled_from(["a.nii.gz", "c.npy", "train", "test", "0", "1", "-1", "0.5", "1e400", "NA", "\u00b2", ""])
            | st.text(max_size=4),
            max_size=6,
        ),
        max_size=5,
    ),
    st.sampled_from(",;\t"),
)
def test_no_table_is_a_traceback(root: Path, header: list[str], table: list[list[str]], delimiter: str) -> None:
    lines = [delimiter.join(fields) for fields in [["path", "x", *header], *table]]
    (root / "labels.csv").write_text("\n".join(lines), "utf-8")
    data = Folder(root)
    try:
        tasks = {task.name for task in data.tasks}
        cases = checked_cases(data, ())
    except DataError:
        return
    assert all(set(case.targets) <= tasks for case in cases)

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssl3d.data.check import check
from ssl3d.data.sets.mrnet import FINDINGS, PLANES, MRNet
from ssl3d.errors import DataError

Spoil = Callable[[Path], object]


def edit(table: str, old: str, new: str) -> Spoil:
    """Replace text of a table, once; the old text is a pattern."""

    def spoil(root: Path) -> None:
        text, count = re.subn(old, new, (root / table).read_text(), count=1)
        assert count == 1
        (root / table).write_text(text)

    return spoil


def put(name: str, array: np.ndarray) -> Spoil:
    return lambda root: np.save(root / name, array)


def cut(name: str, keep: int) -> Spoil:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:keep])


def pickle_into(name: str) -> Spoil:
    def spoil(root: Path) -> None:
        buffer = io.BytesIO()
        np.save(buffer, np.array([{"evil": 1}], dtype=object), allow_pickle=True)
        (root / name).write_bytes(buffer.getvalue())

    return spoil


GREY = np.arange(6 * 24 * 24, dtype=np.uint8).reshape(6, 24, 24)
VOLUME = "train/sagittal/0001.npy"
HOLED = np.where(GREY == 7, np.nan, GREY).astype(np.float32)

TABLE_FAULTS: dict[str, tuple[Spoil, list[str]]] = {
    "no folder": (lambda root: shutil.rmtree(root / "valid"), ["valid", "missing", "requested from Stanford"]),
    "no plane": (lambda root: shutil.rmtree(root / "train/sagittal"), ["train/sagittal", "missing"]),
    "no table": (lambda root: (root / "valid-acl.csv").unlink(), ["valid-acl.csv", "missing", "Stanford"]),
    "empty table": (lambda root: (root / "valid-acl.csv").write_text(""), ["valid-acl.csv", "empty"]),
    "header": (edit("train-acl.csv", "^", "case,label\n"), ["train-acl.csv row 1", "header"]),
    "bad label": (edit("train-acl.csv", "0001,.", "0001,2"), ["train-acl.csv row 2", "label '2'"]),
    "no label": (edit("train-acl.csv", "0001,.", "0001"), ["train-acl.csv row 2", "1 fields"]),
    "lost zeros": (edit("train-acl.csv", "0001,", "1,"), ["train-acl.csv row 2", "four digits"]),
    "other digits": (edit("train-acl.csv", "0001,", "000\u0661,"), ["train-acl.csv row 2", "four digits"]),
    "twice": (edit("train-acl.csv", "0001,", "0000,"), ["train-acl.csv row 2", "0000", "row 1"]),
    "one task only": (edit("train-acl.csv", r"\Z", "0007,1\n"), ["train-acl.csv row 4", "0007", "train-meniscus.csv"]),
    "in both": (edit("valid-acl.csv", "0003,", "0002,"), ["valid-acl.csv row 1", "0002", "train-acl.csv row 3"]),
    "absent": (lambda root: (root / VOLUME).unlink(), ["train-acl.csv row 2", VOLUME]),
    "unlisted": (put("valid/sagittal/1300.npy", GREY), ["valid/sagittal/1300.npy", "valid-*.csv"]),
    "not text": (lambda root: (root / "train-acl.csv").write_bytes(b"\xff\xfe0\x000"), ["train-acl.csv", "CSV"]),
}

VOLUME_FAULTS: dict[str, tuple[Spoil, str]] = {
    "truncated": (cut(VOLUME, -5), "truncated"),
    "cut in its header": (cut(VOLUME, 40), "plain .npy"),
    "no bytes": (cut(VOLUME, 0), "plain .npy"),
    "longer than it says": (lambda root: (root / VOLUME).write_bytes((root / VOLUME).read_bytes() + b"x"), "damaged"),
    "rank": (put(VOLUME, GREY[0]), "shape (24, 24)"),
    "dtype": (put(VOLUME, GREY.astype(np.int16)), "int16"),
    "NaN": (put(VOLUME, HOLED), "float32"),
    "empty": (put(VOLUME, GREY[:0]), "empty"),
    "constant": (put(VOLUME, np.full_like(GREY, 9)), "constant: every voxel is 9"),
    "size in plane": (put(VOLUME, GREY[:, :20]), "(20, 24)"),
    "pickled": (pickle_into(VOLUME), "pickled"),
    "a pickle": (lambda root: (root / VOLUME).write_bytes(b"\x80\x04N."), "pickled"),
}


@pytest.mark.parametrize("fault", TABLE_FAULTS)
def test_a_fault_of_folders_or_tables_is_reported_with_file_and_row(mrnet_root: Path, fault: str) -> None:
    spoil, words = TABLE_FAULTS[fault]
    spoil(mrnet_root)
    with pytest.raises(DataError) as caught:
        MRNet(mrnet_root).cases()
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", VOLUME_FAULTS)
def test_a_fault_of_a_volume_is_reported_with_its_file_and_disturbs_no_other(mrnet_root: Path, fault: str) -> None:
    spoil, word = VOLUME_FAULTS[fault]
    spoil(mrnet_root)
    faults = check(MRNet(mrnet_root)).faults
    assert len(faults) == 1
    assert VOLUME in faults[0]
    assert word in faults[0]


def test_all_faults_are_found_at_once(mrnet_root: Path) -> None:
    edit("train-acl.csv", "0001,.", "0001,x")(mrnet_root)
    edit("valid-meniscus.csv", "0004,.", "0004,-1")(mrnet_root)
    faults = check(MRNet(mrnet_root)).faults
    assert any("train-acl.csv row 2: label 'x'" in fault for fault in faults)
    assert any("valid-meniscus.csv row 2: label '-1'" in fault for fault in faults)


def test_ids_keep_their_zeros_and_the_first_exam_is_not_lost(mrnet_root: Path) -> None:
    cases = MRNet(mrnet_root).cases()
    assert [case.id for case in cases] == ["0000", "0001", "0002", "0003", "0004"]
    assert [case.split for case in cases] == ["train"] * 3 + ["test"] * 2


@pytest.mark.parametrize("end", ["\r\n", "\n\n", "\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_byte_order_marks_and_a_missing_last_newline_change_nothing(
    mrnet_root: Path, end: str, mark: str
) -> None:
    expected = MRNet(mrnet_root).cases()
    for table in mrnet_root.glob("*.csv"):
        table.write_bytes((mark + end.join(table.read_text().split())).encode())
    assert MRNet(mrnet_root).cases() == expected


def test_tables_ordered_by_label_give_cases_ordered_by_id(mrnet_root: Path) -> None:
    expected = MRNet(mrnet_root).cases()
    for table in mrnet_root.glob("*.csv"):
        table.write_text("\n".join(sorted(table.read_text().split(), key=lambda row: row[::-1])))
    assert MRNet(mrnet_root).cases() == expected


def test_the_leftovers_of_file_managers_are_ignored(mrnet_root: Path) -> None:
    expected = MRNet(mrnet_root).cases()
    for name in ("train/.DS_Store", "train/sagittal/.DS_Store", "train/sagittal/._0000.npy", "valid/sagittal/note.txt"):
        (mrnet_root / name).write_bytes(b"x")
    assert MRNet(mrnet_root).cases() == expected


@pytest.mark.parametrize("plane", PLANES)
def test_every_plane_gives_its_own_ragged_volumes_with_all_labels(mrnet_root: Path, plane: str) -> None:
    data = MRNet(mrnet_root, plane)
    for case in data.cases():
        saved = np.load(mrnet_root / case.source)
        volume = data.read(case)
        assert volume.voxels.dtype == np.uint8
        assert volume.spacing is None
        assert np.array_equal(volume.voxels, saved[None])
        assert set(case.targets) == set(FINDINGS)
        assert (case.patient, case.exam) == (case.id, case.id)
    assert [task.name for task in data.tasks] == list(FINDINGS)
    assert (data.family, data.knows_patients) == ("mrnet (synthetic)", False)
    depths = {data.read(case).voxels.shape[1] for case in data.cases()}
    assert {5, 9} <= depths
    assert data.left_right == (0 if plane == "sagittal" else 2)


def test_labels_come_from_the_table_of_their_task(mrnet_root: Path) -> None:
    for value, task in enumerate(FINDINGS):
        for part in ("train", "valid"):
            table = mrnet_root / f"{part}-{task}.csv"
            table.write_text(re.sub(",.", f",{value % 2}", table.read_text()))
    assert all(case.targets == {"acl": 0, "meniscus": 1, "abnormal": 0} for case in MRNet(mrnet_root).cases())


def test_the_folder_above_the_right_one_suggests_the_right_one(mrnet_root: Path) -> None:
    with pytest.raises(DataError, match=f"did you mean --root .*{mrnet_root.name}"):
        MRNet(mrnet_root.parent).cases()


def test_no_root_an_absent_root_and_an_unknown_plane_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs --root.*nothing is downloaded"):
        MRNet().cases()
    with pytest.raises(DataError, match=r"nowhere is not a folder.*Stanford"):
        MRNet(tmp_path / "nowhere").cases()
    with pytest.raises(DataError, match="did you mean 'sagittal'"):
        MRNet(tmp_path, "sagital")
    with pytest.raises(DataError, match="no variants"):
        MRNet(tmp_path, variant="v2")

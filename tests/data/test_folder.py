from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ssl3d.data.check import check
from ssl3d.data.pack import pack
from ssl3d.data.sets.folder import Folder
from ssl3d.data.voxels import scale_robustly
from ssl3d.errors import DataError
from ssl3d.task import Task

GREY = np.random.default_rng(0).integers(0, 1000, (5, 9, 14)).astype(np.int16)
Spoil = Callable[[Path], object]


def save_nifti(path: Path, voxels: np.ndarray, spacing: tuple[float, ...] = (1, 1, 1), flips: Any = (1, 1, 1)) -> None:
    affine = np.diag([*(step * flip for step, flip in zip(spacing, flips, strict=True)), 1.0])
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)  # type: ignore[no-untyped-call]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three volumes: two NIfTI, one .npy; two tasks, the second known for two of them."""
    folder = tmp_path / "scans"
    folder.mkdir()
    save_nifti(folder / "a.nii.gz", GREY)
    save_nifti(folder / "b.nii", GREY.astype(np.float32))
    np.save(folder / "c.npy", GREY)
    (folder / "labels.csv").write_text("path,tumour,grade,split\na.nii.gz,0,2,train\nb.nii,1,,test\nc.npy,1,0,val\n")
    return folder


def rows(text: str) -> Spoil:
    return lambda root: (root / "labels.csv").write_text(text)


TABLE_FAULTS: dict[str, tuple[Spoil, list[str]]] = {
    "no table": (lambda root: (root / "labels.csv").unlink(), ["labels.csv", "missing", "column 'path'"]),
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
VOLUME_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-20]), "restore it"),
    "no gzip": (lambda path: path.write_bytes(b"not gzip at all"), "NIfTI"),
    "no NIfTI": (lambda path: path.write_bytes(gzip.compress(b"text")), "NIfTI"),
    "no bytes": (lambda path: path.write_bytes(b""), "NIfTI"),
    "2D": (lambda path: save_nifti(path, GREY[0]), "three axes"),
    "4D": (lambda path: save_nifti(path, np.stack([GREY] * 2, -1)), "(5, 9, 14, 2)"),
    "NaN": (lambda path: save_nifti(path, np.where(GREY < 10, np.nan, GREY)), "NaN"),
    "infinite": (lambda path: save_nifti(path, np.where(GREY < 10, np.inf, GREY)), "infinity"),
    "constant": (lambda path: save_nifti(path, np.full_like(GREY, 3)), "constant"),
    "complex": (lambda path: save_nifti(path, GREY.astype(np.complex64)), "complex64"),
    "colour": (
        lambda path: save_nifti(path, np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])),
        "real numbers",
    ),
}


@pytest.mark.parametrize("fault", TABLE_FAULTS)
def test_a_fault_of_the_table_is_reported_with_file_and_row(root: Path, fault: str) -> None:
    spoil, words = TABLE_FAULTS[fault]
    spoil(root)
    with pytest.raises(DataError) as caught:
        Folder(root).cases()
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("fault", VOLUME_FAULTS)
def test_a_fault_of_a_volume_is_reported_with_file_and_row(root: Path, fault: str) -> None:
    spoil, word = VOLUME_FAULTS[fault]
    spoil(root / "a.nii.gz")
    faults = check(Folder(root)).faults
    assert len(faults) == 1
    assert "a.nii.gz (labels.csv row 2)" in faults[0]
    assert word in faults[0]


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (GREY[:, :0], "empty"),
        (GREY[0], "three axes"),
        (np.array([[[None]]], object), "pickled"),
        (GREY > 2000, "constant"),
    ],
)
def test_a_fault_of_an_npy_file_is_reported_with_file_and_row(root: Path, array: np.ndarray, word: str) -> None:
    np.save(root / "c.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=rf"c\.npy \(labels\.csv row 4\).*{word}"):
        Folder(root).read(Folder(root).cases()[2])


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


@pytest.mark.parametrize("name", ["A.NII.GZ", "A.nii.GZ", "A.Nii", "C.NPY"])
def test_endings_may_be_in_capitals(root: Path, name: str) -> None:
    if name == "C.NPY":
        (root / "c.npy").rename(root / name)
    else:
        save_nifti(root / name.lower(), GREY)
        (root / name.lower()).rename(root / name)
    rows(f"path,x,split\n{name},0,train\n")(root)
    data = Folder(root)
    assert data.read(data.cases()[0]).voxels.shape[0] == 1
    assert sorted(data.view_size) == [8, 8, 12]


@pytest.mark.parametrize(
    ("spacing", "order", "left_right"),
    [((1, 1, 1), (2, 1, 0), 2), ((1, 1, 1.05), (2, 1, 0), 2), ((3, 1, 1), (0, 2, 1), 0), ((1, 3, 1), (1, 2, 0), 2)],
)
def test_the_coarsest_axis_comes_first_however_the_file_stores_its_axes(
    root: Path, spacing: tuple[float, ...], order: tuple[int, ...], left_right: int
) -> None:
    expected = scale_robustly(GREY.transpose(order))[None]
    steps = tuple(spacing[axis] for axis in order)
    (root / "labels.csv").write_text("path,x,split\na.nii.gz,0,train\n")
    canonical = nibabel.Nifti1Image(GREY, np.diag([*spacing, 1.0]))  # type: ignore[no-untyped-call]
    for axes in itertools.permutations(range(3)):
        for flips in ((1, 1, 1), (-1, 1, -1)):
            stored = np.column_stack([axes, flips])
            nibabel.save(canonical.as_reoriented(stored), root / "a.nii.gz")  # type: ignore[no-untyped-call]
            data = Folder(root)
            volume = data.read(data.cases()[0])
            assert np.array_equal(volume.voxels, expected)
            assert volume.spacing == pytest.approx(steps)
            assert data.left_right == left_right


def test_left_and_right_are_unknown_where_volumes_disagree(root: Path) -> None:
    assert Folder(root).left_right is None  # .npy says nothing
    rows("path,x,split\na.nii.gz,0,train\nb.nii,0,test\n")(root)
    assert Folder(root).left_right == 2
    save_nifti(root / "b.nii", GREY, (3, 1, 1))
    assert Folder(root).left_right is None


def test_a_fourth_axis_of_length_one_is_dropped(root: Path) -> None:
    before = Folder(root).read(Folder(root).cases()[0])
    save_nifti(root / "a.nii.gz", GREY[..., None])
    assert np.array_equal(Folder(root).read(Folder(root).cases()[0]).voxels, before.voxels)


def test_spacing_is_in_millimetres_and_unknown_where_the_file_does_not_say(root: Path) -> None:
    image: Any = nibabel.Nifti1Image(GREY, np.diag([0.002, 0.001, 0.001, 1.0]))  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("meter")
    nibabel.save(image, root / "a.nii.gz")
    data = Folder(root)
    first, _, last = data.cases()
    assert data.read(first).spacing == pytest.approx((2.0, 1.0, 1.0))
    assert data.read(last).spacing is None  # .npy


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.uint16, np.int32, np.int64, np.float16, np.float64])
def test_any_real_type_becomes_float16_between_0_and_1(root: Path, dtype: type) -> None:
    np.save(root / "c.npy", (GREY % 100).astype(dtype))
    volume = Folder(root).read(Folder(root).cases()[2]).voxels
    assert (volume.dtype.name, volume.shape) == ("float16", (1, 5, 9, 14))
    assert (volume.min(), volume.max()) == (0, 1)


@given(
    hnp.arrays(np.float32, (3, 5, 7), elements=st.integers(0, 255), unique=False).filter(lambda v: v.min() < v.max()),
    st.sampled_from([1e-4, 0.5, 1000.0]),
    st.integers(-50, 50),
)
def test_scaling_takes_away_gain_and_offset(volume: np.ndarray, gain: float, offset: int) -> None:
    scaled = scale_robustly(volume)
    other = scale_robustly(volume.astype(np.float64) * gain + offset)
    assert np.allclose(scaled, other, atol=2e-3)
    assert (scaled.min(), scaled.max()) == (0, 1)


def test_scaling_is_not_led_by_one_hot_voxel() -> None:
    hot = GREY.astype(np.float64)
    hot[0, 0, 0] = 1e9
    assert abs(float(scale_robustly(hot).mean()) - float(scale_robustly(GREY).mean())) < 0.01


def test_a_mask_with_few_voxels_set_is_not_lost() -> None:
    mask = np.zeros((6, 20, 30), np.uint8)
    mask[2, 3, 4] = 1
    assert scale_robustly(mask).sum() == 1


@pytest.mark.parametrize(
    ("shapes", "size"),
    [([(5, 9, 14)] * 3, (8, 8, 12)), ([(200, 31, 9), (23, 500, 9), (17, 300, 40)], (20, 112, 8))],
)
def test_view_size_is_the_median_within_bounds(
    tmp_path: Path, shapes: list[tuple[int, ...]], size: tuple[int, int, int]
) -> None:
    for index, shape in enumerate(shapes):
        np.save(tmp_path / f"{index}.npy", np.zeros(shape, np.uint8))
    rows("path,x,split\n" + "".join(f"{index}.npy,0,train\n" for index in range(3)))(tmp_path)
    assert Folder(tmp_path).view_size == size


def test_no_root_an_absent_root_and_a_plane_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs --root"):
        Folder()
    with pytest.raises(DataError, match="nowhere is not a folder"):
        Folder(tmp_path / "nowhere").cases()
    with pytest.raises(DataError, match="no planes"):
        Folder(tmp_path, "axial")


def test_the_real_hippocampi_pack(shared_data: Path, tmp_path: Path) -> None:
    data = Folder(shared_data / "hippocampus")
    assert check(data).faults == check(data).notes == ()
    store = pack(data, tmp_path / "store")
    assert (len(store.indices("train")), len(store.indices("test"))) == (49, 16)
    assert store.tasks == (Task(name="large"),)
    assert (store.manifest.view_size, store.manifest.left_right) == ((32, 48, 32), 2)
    assert {case.spacing for case in store.manifest.cases} == {(1.0, 1.0, 1.0)}
    assert store.duplicates() == []
    means = store.volumes(range(len(store))).mean  # intensities that differ by four orders of magnitude are alike now
    assert means.min() > 0.2
    assert means.max() < 0.8

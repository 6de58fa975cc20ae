"""Volumes of a folder: NIfTI and .npy."""

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
from ssl3d.data.reading.voxels import scale_robustly
from ssl3d.data.sets.folder import Folder
from ssl3d.errors import DataError
from ssl3d.task import Task
from tests.data.scans import GREY, rows, save_nifti

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

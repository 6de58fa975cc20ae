from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssl3d.data.pack import pack
from ssl3d.data.sets.medmnist3d import MedMNIST3D
from ssl3d.errors import DataError

SIZES = {"train": 4, "val": 2, "test": 3}


def official(classes: int = 2, side: int = 28) -> dict[str, np.ndarray]:
    """Arrays laid out as an official file's, of another number of volumes in each split."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in SIZES.items():
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, side, side, side), np.uint8)
        arrays[f"{split}_labels"] = rng.integers(0, classes, (count, 1), np.uint8)
    return arrays


@pytest.fixture
def root(tmp_path: Path) -> Path:
    np.savez_compressed(tmp_path / "adrenalmnist3d.npz", **official())  # type: ignore[arg-type]
    return tmp_path


def spoiled(root: Path, **changes: np.ndarray | None) -> MedMNIST3D:
    arrays = {key: value for key, value in (official() | changes).items() if value is not None}
    np.savez_compressed(root / "adrenalmnist3d.npz", **arrays)  # type: ignore[arg-type]
    return MedMNIST3D(root, variant="adrenalmnist3d")


@pytest.mark.parametrize(("variant", "side", "classes"), [("adrenalmnist3d_64", 64, 2), ("organmnist3d", 28, 11)])
def test_splits_labels_and_voxels_are_those_of_the_file(tmp_path: Path, variant: str, side: int, classes: int) -> None:
    arrays = official(classes, side)
    np.savez_compressed(tmp_path / f"{variant}.npz", **arrays)  # type: ignore[arg-type]
    data = MedMNIST3D(tmp_path, variant=variant)
    cases = data.cases()
    (task,) = data.tasks
    assert len(task.classes) == classes
    assert (task.kind, data.knows_patients) == ("binary" if classes == 2 else "multiclass", False)
    assert data.family == f"medmnist3d:{variant.removesuffix('_64')}"
    assert data.view_size == (side, side, side)
    for split, count in SIZES.items():
        own = [case for case in cases if case.split == split]
        assert [case.targets["label"] for case in own] == arrays[f"{split}_labels"][:, 0].tolist()
        assert len(own) == count
        for index, case in enumerate(own):
            assert np.array_equal(data.read(case).voxels, arrays[f"{split}_images"][index][None])


def test_cases_may_be_read_in_any_order(root: Path) -> None:
    data = MedMNIST3D(root, variant="adrenalmnist3d")
    cases = data.cases()
    forwards = [data.read(case) for case in cases]
    backwards = [data.read(case) for case in reversed(cases)]
    assert all(np.array_equal(a.voxels, b.voxels) for a, b in zip(forwards, reversed(backwards), strict=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test_labels": None}, ["no test_labels"]),
        ({"val_images": None}, ["no val_images"]),
        ({"train_images": np.zeros((4, 28, 28), np.uint8)}, ["train_images", "(4, 28, 28)"]),
        ({"train_images": np.zeros((4, 28, 28, 27), np.uint8)}, ["train_images", "(4, 28, 28, 27)"]),
        ({"train_images": np.zeros((4, 28, 28, 28), np.float32)}, ["train_images", "float32"]),
        ({"train_labels": np.zeros((3, 1), np.uint8)}, ["train_labels", "(3, 1)"]),
        ({"train_labels": np.array([[0], [1], [2], [0]], np.uint8)}, ["train_labels[2]", "0 to 1"]),
        ({"train_labels": np.array([[0], [-1], [0], [0]], np.int8)}, ["train_labels[1]", "-1"]),
        ({"train_labels": np.array([[None]] * 4, object)}, ["train_labels", "pickle"]),
        ({"train_images": np.array([[None]] * 4, object)}, ["train_images", "pickle"]),
    ],
)
def test_a_file_that_is_not_the_official_one_is_refused(
    tmp_path: Path, changes: dict[str, np.ndarray | None], words: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        spoiled(tmp_path, **changes).cases()
    assert "adrenalmnist3d.npz" in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_file_cut_short_is_reported_with_the_address_of_the_whole_one(root: Path) -> None:
    file = root / "adrenalmnist3d.npz"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"damaged.*remove it.*https://zenodo\.org"):
        MedMNIST3D(root, variant="adrenalmnist3d").cases()


def test_an_absent_file_is_reported_with_its_place_address_and_checksum(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"vesselmnist3d_64\.npz is missing.*https://zenodo.*vesselmnist3d_64\.npz.*MD5"
    ):
        MedMNIST3D(tmp_path, variant="vesselmnist3d_64", download=False).cases()


@pytest.mark.parametrize("online", [True, False])
def test_an_absent_file_is_fetched_where_there_is_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, online: bool
) -> None:
    import medmnist

    def fetch(split: str, download: bool, size: int, root: str) -> None:
        file = Path(root) / "vesselmnist3d.npz"
        assert (download, size) == (True, 28)
        if not online:
            file.write_bytes(b"half a file")
            raise RuntimeError("Automatic download failed!")
        np.savez_compressed(file, **official())  # type: ignore[arg-type]

    monkeypatch.setattr(medmnist, "VesselMNIST3D", fetch)
    data = MedMNIST3D(tmp_path, variant="vesselmnist3d")
    if online:
        assert len(data.cases()) == sum(SIZES.values())
    else:
        with pytest.raises(DataError, match="could not be downloaded; download https"):
            data.cases()
        assert not list(tmp_path.iterdir())  # half a file would be taken for the file next time


def test_a_wrong_variant_suggests_the_nearest_and_none_lists_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'adrenalmnist3d'"):
        MedMNIST3D(tmp_path, variant="adrenalmnist")
    with pytest.raises(DataError, match=r"needs a variant.*nodulemnist3d.*synapsemnist3d_64"):
        MedMNIST3D(tmp_path)
    with pytest.raises(DataError, match="no variant 'pathmnist'"):  # 2D
        MedMNIST3D(tmp_path, variant="pathmnist")
    with pytest.raises(DataError, match="no planes"):
        MedMNIST3D(tmp_path, "axial", "adrenalmnist3d")


def test_an_absent_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        MedMNIST3D(tmp_path / "nowhere", variant="adrenalmnist3d").cases()


def test_the_real_adrenal_glands_pack(shared_data: Path, tmp_path: Path) -> None:
    data = MedMNIST3D(shared_data, variant="adrenalmnist3d", download=False)
    store = pack(data, tmp_path / "store")
    assert [len(store.indices(split)) for split in ("train", "val", "test")] == [1188, 98, 298]
    assert store.task("label").classes == ("normal", "hyperplasia")
    assert store.targets("label", store.indices("test")).sum() == 69
    assert set(store.volumes([0]).voxels[0].flatten().tolist()) == {0, 255}

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl3d.data.manifest import DamagedStoreError
from ssl3d.data.pack import pack
from ssl3d.data.store import Store
from ssl3d.errors import DataError
from tests.data.arrays import SHAPES, Arrays, arrays, one_label, one_patient, one_split, one_voxel

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_the_resident_store_gives_the_same_batches(folder: Path) -> None:
    store = pack(arrays(SHAPES, "float16"), folder)
    resident = store.resident(CPU)
    for indices in ([0], [4, 2, 0], [3, 3]):
        streamed, held = store.volumes(indices), resident.volumes(indices, CPU)
        assert all(torch.equal(a, b) for a, b in zip(streamed.voxels, held.voxels, strict=True))
        assert torch.equal(streamed.mean, held.mean)
        assert torch.equal(streamed.std, held.std)
    assert resident.volumes([0]).voxels[0].data_ptr() != store.volumes([0]).voxels[0].data_ptr()
    (folder / "volumes.bin").write_bytes(b"\0" * (folder / "volumes.bin").stat().st_size)
    assert resident.volumes([0]).voxels[0].any()  # held in memory, not mapped


def test_a_batch_is_a_view_of_the_mapping_not_a_copy(folder: Path) -> None:
    store = pack(arrays(SHAPES), folder)
    first, again = (store.volumes([1]).voxels[0] for _ in range(2))
    assert first.data_ptr() == again.data_ptr()
    before = (folder / "volumes.bin").read_bytes()
    first.zero_()  # forbidden, and yet harmless to the file
    assert (folder / "volumes.bin").read_bytes() == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_a_gpu_equal_those_on_the_cpu(folder: Path) -> None:
    store = pack(arrays(SHAPES), folder)
    gpu = torch.device("cuda")
    for source in (store, store.resident(gpu)):
        batch = source.volumes([2, 0], gpu)
        assert batch.device.type == batch.mean.device.type == "cuda"
        assert all(torch.equal(a.cpu(), b) for a, b in zip(batch.voxels, store.volumes([2, 0]).voxels, strict=True))


def test_targets_ids_and_splits_are_those_of_the_cases(folder: Path) -> None:
    store = pack(arrays(SHAPES), folder)
    assert store.indices("train") == [0, 2, 3]
    assert store.indices("test") == [1, 4]
    assert store.ids([4, 0]) == ["004", "000"]
    assert store.labelled("train", "grade") == [3]
    targets = store.targets("tear", [3, 0, 1])
    assert (targets.dtype.name, targets.tolist()) == ("int64", [1, 0, 1])
    assert (store.name, store.synthetic, store.knows_patients, len(store)) == ("arrays", False, True, 5)
    assert [task.name for task in store.tasks] == ["tear", "grade"]
    assert store.task("grade").classes == ("a", "b", "c", "d")
    with pytest.raises(DataError, match="did you mean 'tear'"):
        store.targets("tears", [0])
    with pytest.raises(DataError, match="did you mean 'grade'"):
        store.labelled("train", "grad")
    with pytest.raises(DataError, match="case 000 has no target for 'grade'"):
        store.targets("grade", [3, 0])


def test_volumes_in_both_train_and_test_are_found(folder: Path) -> None:
    data = arrays(SHAPES)
    data._volumes["004"] = data._volumes["000"]  # test and train
    data._volumes["003"] = data._volumes["002"]  # both train
    assert pack(data, folder).duplicates() == [("000", "004")]


def _spoil_version(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))


def _spoil_field(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["cases"][0]["sha256"]
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "no complete packed store"),
        (lambda folder: (folder / "manifest.json").write_text("{"), r"manifest\.json is damaged"),
        (lambda folder: (folder / "manifest.json").write_text("[" * 100_000), r"manifest\.json is damaged"),
        (lambda folder: (folder / "manifest.json").write_text("[1]"), "format None"),
        (_spoil_version, "format 99 where this version reads 1"),
        (_spoil_field, r"damaged \(cases\.0\.sha256"),
        (lambda folder: (folder / "volumes.bin").write_bytes(b"x"), r"volumes\.bin has 1 bytes"),
        (lambda folder: (folder / "volumes.bin").unlink(), r"volumes\.bin has 0 bytes"),
    ],
)
def test_a_store_that_is_not_whole_is_not_opened(folder: Path, spoil: object, words: str) -> None:
    pack(arrays(SHAPES), folder)
    assert callable(spoil)
    spoil(folder)
    with pytest.raises(DataError, match=words):
        Store.open(folder)


def test_verify_finds_one_flipped_bit_and_a_changed_label(folder: Path) -> None:
    store = pack(arrays(SHAPES), folder)
    store.verify()
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest.replace('"tear": 1', '"tear": 0', 1))
    with pytest.raises(DataError, match="manifest was changed"):
        Store.open(folder).verify()
    (folder / "manifest.json").write_text(manifest)
    voxels = bytearray((folder / "volumes.bin").read_bytes())
    voxels[store.manifest.cases[1].offset] ^= 1
    (folder / "volumes.bin").write_bytes(voxels)
    with pytest.raises(DataError, match="case 001 of arrays is damaged"):
        Store.open(folder).verify()


def flip_a_bit(folder: Path, index: int) -> None:
    voxels = bytearray((folder / "volumes.bin").read_bytes())
    voxels[Store.open(folder).manifest.cases[index].offset] ^= 1
    (folder / "volumes.bin").write_bytes(voxels)


def test_a_damaged_volume_is_found_when_it_is_first_read_and_only_then(folder: Path) -> None:
    pack(arrays(SHAPES), folder)
    flip_a_bit(folder, 1)
    store = Store.open(folder)
    store.volumes([0, 2])
    for view in (store, store.with_splits(["train"] * 5)):
        with pytest.raises(DataError, match=r"volumes\.bin: case 001 of arrays is damaged; the same .* command"):
            view.volumes([2, 1])
    with pytest.raises(DataError, match="case 001 of arrays is damaged"):
        store.resident(CPU)


def test_damage_can_be_reported_by_another_process(folder: Path) -> None:
    error = DamagedStoreError("case\x1b 1 is damaged", folder)
    again = copy.copy(error)  # by the protocol of pickle
    assert (type(again), again.folder) == (DamagedStoreError, folder)
    assert str(again) == str(error) == "case\\x1b 1 is damaged; the same `ssl3d bench` command packs it again"


def test_a_volume_is_hashed_once_for_a_store_and_all_its_views(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = pack(arrays(SHAPES), folder)
    hashed: list[int] = []

    def sha256(data: memoryview) -> object:
        hashed.append(data.nbytes)
        return real(data)

    real = hashlib.sha256
    monkeypatch.setattr("ssl3d.data.store.hashlib.sha256", sha256)
    for view in (store, store, store.with_splits(["train"] * 5)):
        view.volumes([1, 0, 1])
    store.resident(CPU).volumes([0, 1])
    sizes = [case.voxels for case in store.manifest.cases]
    assert sorted(hashed) == sorted(sizes)


def fingerprints(data: Arrays, folder: Path) -> tuple[str, str, str]:
    store = pack(data, folder)
    return store.fingerprint, store.voxel_fingerprint, store.evaluation_fingerprint("grade")


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (one_voxel, (True, True, False)),  # of a volume without a grade
        (one_label, (True, False, False)),
        (one_split, (True, False, False)),
        (one_patient, (True, False, False)),
        (lambda data: one_graded(data, targets={"grade": 0}), (True, False, True)),
        (lambda data: one_graded(data, patient="P"), (True, False, True)),
        (lambda data: one_graded(data, split="test"), (True, False, True)),
        (lambda data: one_graded(data, exam="E"), (False, False, False)),
    ],
)
def test_each_fingerprint_follows_what_it_is_of(
    tmp_path: Path, change: Callable[[Arrays], None], changed: tuple[bool, bool, bool]
) -> None:
    before = fingerprints(arrays(SHAPES), tmp_path / "a")
    data = arrays(SHAPES)
    change(data)
    after = fingerprints(data, tmp_path / "b")
    assert tuple(a != b for a, b in zip(before, after, strict=True)) == changed


def one_graded(data: Arrays, **changes: Any) -> None:
    assert "grade" in data._cases[3].targets
    data._cases[3] = replace(data._cases[3], **changes)


def test_the_fingerprint_of_an_evaluation_is_that_of_the_view(folder: Path) -> None:
    store = pack(arrays(SHAPES), folder)
    view = store.with_splits(["test", "train", "test", "train", "train"])
    assert view.fingerprint == store.fingerprint
    assert view.evaluation_fingerprint("tear") != store.evaluation_fingerprint("tear")
    with pytest.raises(DataError, match="did you mean 'tear'"):
        store.evaluation_fingerprint("tears")

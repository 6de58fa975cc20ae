from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ssl3d.data.pack import pack
from ssl3d.data.store import Store
from ssl3d.errors import DataError
from tests.arrays import SHAPES, arrays

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


def test_labels_ids_and_splits_are_those_of_the_cases(folder: Path) -> None:
    store = pack(arrays(SHAPES), folder)
    assert store.indices("train") == [0, 2, 3]
    assert store.indices("test") == [1, 4]
    assert store.ids([4, 0]) == ["004", "000"]
    assert store.labelled("train", "grade") == [3]
    labels = store.labels("tear", [3, 0, 1])
    assert (labels.dtype.name, labels.tolist()) == ("int64", [1, 0, 1])
    assert (store.name, store.tasks, store.synthetic, len(store)) == ("arrays", ("tear", "grade"), False, 5)
    with pytest.raises(DataError, match="did you mean 'tear'"):
        store.labels("tears", [0])
    with pytest.raises(DataError, match="did you mean 'grade'"):
        store.labelled("train", "grad")
    with pytest.raises(DataError, match="case 000 has no label for 'grade'"):
        store.labels("grade", [3, 0])


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
    with pytest.raises(DataError, match="case 001 is damaged"):
        Store.open(folder).verify()

"""Packing: what is written, resumed, and packed again."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssl3d.data.manifest import DamagedStoreError
from ssl3d.data.pack import mark_damaged, pack
from ssl3d.data.packable import require_packable
from ssl3d.data.sets.mrnet import MRNet
from ssl3d.data.store import Store
from ssl3d.dataset import Volume
from ssl3d.errors import DataError
from tests.data.arrays import (
    SHAPES,
    arrays,
    one_id,
    one_label,
    one_patient,
    one_shape,
    one_split,
    one_voxel,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 5), st.integers(1, 4)), min_size=2, max_size=6
    ),
    st.sampled_from(["uint8", "float16"]),
    st.integers(0, 9),
)
def test_what_is_packed_comes_back_byte_for_byte(
    tmp_path: Path, shapes: list[tuple[int, int, int, int]], dtype: str, seed: int
) -> None:
    shutil.rmtree(tmp_path / "s", ignore_errors=True)
    data = arrays(shapes, dtype, seed)
    store = pack(data, tmp_path / "s")
    batch = store.volumes(range(len(shapes)))
    for index, case in enumerate(data.cases()):
        volume = data._volumes[case.id]
        assert batch.voxels[index].numpy().tobytes() == volume.tobytes()
        assert tuple(batch.voxels[index].shape) == volume.shape
        assert batch.mean[index] == pytest.approx(volume.mean(dtype=np.float64), rel=1e-6, abs=1e-7)
        spread = volume.std(dtype=np.float64)
        assert batch.std[index] == pytest.approx(spread if spread > 0 else 1.0, rel=1e-6)
    assert (tmp_path / "s/volumes.bin").stat().st_size == sum(v.nbytes for v in data._volumes.values())
    store.verify()


def test_the_fingerprint_does_not_depend_on_the_place(tmp_path: Path) -> None:
    assert pack(arrays(SHAPES), tmp_path / "a").fingerprint == pack(arrays(SHAPES), tmp_path / "b/c").fingerprint


@pytest.mark.parametrize("change", [one_voxel, one_label, one_split, one_patient, one_id, one_shape])
def test_the_fingerprint_follows_every_change(tmp_path: Path, change: object) -> None:
    data = arrays(SHAPES)
    before = pack(data, tmp_path / "a").fingerprint
    assert callable(change)
    change(data)
    assert pack(data, tmp_path / "b").fingerprint != before


@pytest.mark.parametrize("done", [0, 1, 3, 4])
@pytest.mark.parametrize("torn", ["", "voxels", "journal", "flipped"])
def test_a_killed_pack_goes_on_after_the_last_complete_volume(tmp_path: Path, done: int, torn: str) -> None:
    whole = pack(arrays(SHAPES), tmp_path / "whole")
    folder = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        pack(arrays(SHAPES, fail_after=done), folder)
    with pytest.raises(DataError, match="no complete packed store"):
        Store.open(folder)
    voxels, journal = folder / "volumes.bin", folder / "journal.jsonl"
    if torn == "voxels":
        voxels.write_bytes(voxels.read_bytes() + b"half a volume")
    if torn == "journal":
        journal.write_text(journal.read_text() + '{"id": "00')
    lost = 0
    if torn == "flipped" and done:
        voxels.write_bytes(voxels.read_bytes()[:-1] + bytes([voxels.read_bytes()[-1] ^ 1]))
        lost = 1
    again = arrays(SHAPES)
    store = pack(again, folder)
    assert again.reads == [case.id for case in again.cases()[done - lost :]]
    assert store.manifest == whole.manifest
    assert voxels.read_bytes() == (tmp_path / "whole/volumes.bin").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "volumes.bin"]


def test_targets_and_patients_that_changed_while_a_pack_was_interrupted_are_the_new_ones(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        pack(arrays(SHAPES, fail_after=4), folder)
    data = arrays(SHAPES)
    one_label(data)
    one_patient(data)
    store = pack(data, folder)
    assert store.targets("tear", [2]).tolist() == [1]
    assert store.patients([1, 2]) == ["001", "P"]


def test_an_interrupted_pack_of_other_data_is_not_continued(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        pack(arrays(SHAPES, fail_after=3), folder)
    (folder / "journal.jsonl").write_text((folder / "journal.jsonl").read_text().replace("1 arrays", "1 others"))
    data = arrays(SHAPES)
    pack(data, folder)
    assert len(data.reads) == len(SHAPES)


def test_a_complete_store_is_opened_not_packed_again(folder: Path) -> None:
    pack(arrays(SHAPES), folder)
    again = arrays(SHAPES)
    steps: list[tuple[int, int]] = []
    pack(again, folder, lambda done, total: steps.append((done, total)))
    assert (again.reads, steps) == ([], [])


def test_of_several_that_pack_at_once_one_reads_the_volumes(folder: Path) -> None:
    sets = [arrays(SHAPES) for _ in range(4)]
    stores: list[Store] = []
    threads = [threading.Thread(target=lambda data=data: stores.append(pack(data, folder))) for data in sets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({store.fingerprint for store in stores}) == 1
    assert len(stores) == len(sets)
    assert sorted(len(data.reads) for data in sets) == [0, 0, 0, len(SHAPES)]


def test_a_file_of_the_users_is_not_taken_for_voxels(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "volumes.bin").write_bytes(b"precious")
    with pytest.raises(DataError, match="was not packed by ssl3d"):
        pack(arrays(SHAPES), folder)
    assert (folder / "volumes.bin").read_bytes() == b"precious"


def test_a_store_of_another_data_set_is_not_overwritten(folder: Path, mrnet_root: Path) -> None:
    before = pack(arrays(SHAPES), folder).fingerprint
    with pytest.raises(DataError, match="holds the packed volumes of arrays, not mrnet"):
        pack(MRNet(mrnet_root), folder)
    assert Store.open(folder).fingerprint == before


@pytest.mark.parametrize("change", [one_label, one_split, one_patient, one_id])
def test_changed_cases_are_packed_again(folder: Path, change: object) -> None:
    data = arrays(SHAPES)
    before = pack(data, folder).fingerprint
    assert callable(change)
    change(data)
    store = pack(data, folder)
    assert store.fingerprint != before
    store.verify()


def test_a_changed_file_is_packed_again(mrnet_root: Path, folder: Path) -> None:
    data = MRNet(mrnet_root)
    before = pack(data, folder)
    volume = np.load(mrnet_root / "train/sagittal/0001.npy")
    np.save(mrnet_root / "train/sagittal/0001.npy", volume[:, ::-1])
    after = pack(MRNet(mrnet_root), folder)
    assert np.array_equal(
        before.volumes([1]).voxels[0].numpy()[0, :, ::-1], after.volumes([1]).voxels[0].numpy()[0]
    )  # still readable
    changed = [a.id for a, b in zip(after.manifest.cases, before.manifest.cases, strict=True) if a.sha256 != b.sha256]
    assert changed == ["0001"]


def test_progress_is_reported_from_nothing_to_all(folder: Path) -> None:
    steps: list[tuple[int, int]] = []
    pack(arrays(SHAPES), folder, lambda done, total: steps.append((done, total)))
    assert steps == [(done, 5) for done in range(6)]


@pytest.mark.parametrize(
    ("volume", "word"),
    [
        (np.zeros((5, 6, 7), np.uint8), "shape (5, 6, 7)"),
        (np.zeros((1, 0, 6, 7), np.uint8), "none of them 0"),
        (np.zeros((1, 5, 6, 7), np.float32), "float32"),
        (np.full((1, 5, 6, 7), 1.5, np.float16), "outside [0, 1]"),
        (np.full((1, 5, 6, 7), np.nan, np.float16), "NaN"),
        (np.zeros((1, 5, 6, 7), np.float16), "use one type"),
    ],
)
def test_a_volume_that_breaks_the_contract_stops_the_pack_and_names_its_source(
    folder: Path, volume: np.ndarray, word: str
) -> None:
    data = arrays(SHAPES)
    data._volumes["002"] = volume
    with pytest.raises(DataError) as caught:
        pack(data, folder)
    assert "memory/002" in str(caught.value)
    assert word in str(caught.value)
    assert not (folder / "manifest.json").exists()


def test_spacing_is_kept_and_must_be_positive(folder: Path) -> None:
    data = arrays(SHAPES)
    assert [case.spacing for case in pack(data, folder).manifest.cases[:2]] == [(3.0, 0.5, 0.5), None]
    with pytest.raises(DataError, match=r"memory/000 was read with the spacing \(0\.0, 1\.0, 1\.0\)"):
        require_packable(Volume(data._volumes["000"], (0.0, 1.0, 1.0)), data.cases()[0])
    with pytest.raises(DataError, match=r"was read as ndarray; return a ssl3d\.dataset\.Volume"):
        require_packable(data._volumes["000"], data.cases()[0])  # type: ignore[arg-type]  # what a plugin might do


def test_voxels_of_the_wrong_length_are_packed_again(folder: Path) -> None:
    pack(arrays(SHAPES), folder)
    (folder / "volumes.bin").write_bytes(b"x")
    pack(arrays(SHAPES), folder).verify()


def cut_manifest(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text[: len(text) // 2])


def cut_voxels(folder: Path) -> None:
    (folder / "volumes.bin").write_bytes((folder / "volumes.bin").read_bytes()[:-1])


def wrong_fingerprint(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"fingerprint": "0"}))


def found_in_use(folder: Path) -> None:
    voxels = bytearray((folder / "volumes.bin").read_bytes())
    voxels[-1] ^= 1
    (folder / "volumes.bin").write_bytes(voxels)
    with pytest.raises(DamagedStoreError) as caught:
        Store.open(folder).volumes(range(len(SHAPES)))
    mark_damaged(caught.value)


@pytest.mark.parametrize("damage", [cut_manifest, cut_voxels, wrong_fingerprint, found_in_use])
def test_a_damaged_store_is_packed_again_and_says_so_once(folder: Path, damage: Callable[[Path], None]) -> None:
    before = pack(arrays(SHAPES), folder)
    damage(folder)
    said: list[str] = []
    after = pack(arrays(SHAPES), folder, repair=said.append)
    after.verify()
    assert after.manifest == before.manifest
    assert said == [f"the packed volumes in {folder} are damaged: arrays is packed again"]
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "volumes.bin"]
    again = arrays(SHAPES)
    pack(again, folder, repair=said.append)
    assert (len(said), again.reads) == (1, [])


@pytest.mark.parametrize("damage", [cut_manifest, found_in_use])
def test_the_repair_of_a_store_can_be_killed_at_any_volume(folder: Path, damage: Callable[[Path], None]) -> None:
    whole = pack(arrays(SHAPES), folder).manifest
    for done in range(len(SHAPES)):
        damage(folder)
        with pytest.raises(KeyboardInterrupt):
            pack(arrays(SHAPES, fail_after=done), folder, repair=str)
        again = arrays(SHAPES)
        assert pack(again, folder, repair=str).manifest == whole
        assert len(again.reads) == len(SHAPES) - done
        Store.open(folder).verify()


def test_the_removal_of_a_damaged_store_can_be_killed_between_two_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(arrays(SHAPES), folder)
    unlink = Path.unlink
    for name in ("volumes.bin", "journal.jsonl", "manifest.json", "damaged.txt"):
        found_in_use(folder)

        def killed(path: Path, missing_ok: bool = False, last: str = name) -> None:
            unlink(path, missing_ok=missing_ok)
            if path.name == last:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", killed)
            with pytest.raises(KeyboardInterrupt):
                pack(arrays(SHAPES), folder)
        pack(arrays(SHAPES), folder).verify()


def test_damage_seen_in_a_store_that_was_replaced_meanwhile_does_not_mark_the_new_one(folder: Path) -> None:
    found_in_use_before = pack(arrays(SHAPES), folder)
    found_in_use(folder)
    old = Store.open(folder)
    pack(arrays(SHAPES), folder)
    for store in (old, found_in_use_before):
        with pytest.raises(DamagedStoreError) as caught:
            store.verify()
        assert caught.value.folder is None
        mark_damaged(caught.value)
    assert not (folder / "damaged.txt").exists()


def test_a_manifest_that_cannot_be_parsed_stays_where_the_folder_may_not_be_ours(folder: Path) -> None:
    pack(arrays(SHAPES), folder)
    cut_manifest(folder)
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(DataError, match=r"manifest\.json is damaged"):
        pack(arrays(SHAPES), folder)
    assert (folder / "manifest.json").read_bytes() == before


def test_a_store_of_a_later_version_or_that_cannot_be_read_is_never_removed(folder: Path) -> None:
    pack(arrays(SHAPES), folder)
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(json.dumps({**json.loads(text), "format": 99}))
    with pytest.raises(DataError, match="format 99"):
        pack(arrays(SHAPES), folder, repair=str)
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()
    with pytest.raises(DataError, match=r"manifest\.json cannot be read"):
        pack(arrays(SHAPES), folder, repair=str)
    assert (folder / "volumes.bin").stat().st_size > 0


def test_a_damaged_store_stays_where_its_files_are_gone(folder: Path, mrnet_root: Path) -> None:
    pack(MRNet(mrnet_root), folder)
    cut_voxels(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    (mrnet_root / "train-acl.csv").unlink()
    with pytest.raises(DataError):
        pack(MRNet(mrnet_root), folder, repair=str)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_manifest_that_is_not_ours_is_not_overwritten(folder: Path) -> None:
    folder.mkdir()
    (folder / "manifest.json").write_text('{"name": "something else"}')
    with pytest.raises(DataError, match="format None"):
        pack(arrays(SHAPES), folder)
    assert (folder / "manifest.json").read_text() == '{"name": "something else"}'


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written"):
        pack(arrays(SHAPES), tmp_path / "file" / "store")


@pytest.mark.parametrize("planted", ["volumes.bin", "journal.jsonl", ""])
def test_nothing_is_written_through_a_link_that_was_planted(folder: Path, tmp_path: Path, planted: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        pack(arrays(SHAPES, fail_after=2), folder)
    place = folder / planted if planted else folder
    outside = tmp_path / "outside"
    place.rename(outside)
    place.symlink_to(outside)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match="is a symbolic link, which is not followed"):
        pack(arrays(SHAPES), folder)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    place.unlink()
    outside.rename(place)
    pack(arrays(SHAPES), folder).verify()


def test_a_manifest_that_is_a_link_is_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    folder.mkdir()
    (folder / "manifest.json").symlink_to(tmp_path / "mine")
    with pytest.raises(DataError, match=r"manifest\.json is damaged"):
        pack(arrays(SHAPES), folder)
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").symlink_to(tmp_path / "absent")
    pack(arrays(SHAPES), folder).verify()
    assert not (folder / "manifest.json").is_symlink()
    assert not (tmp_path / "absent").exists()
    assert (tmp_path / "mine").read_text() == "mine"

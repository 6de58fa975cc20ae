"""Packing a data set into a store: every volume read, checked and written once; an interrupted pack goes on.

While packing, ``journal.jsonl`` holds one line for the data set and one for each volume that is complete in
``volumes.bin``. The manifest is written last, in one step, and the journal removed: a store without a manifest is
half-written. Of several processes that want one store, one packs it and the others wait.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from pydantic import ValidationError

from ssl3d.data.manifest import MANIFEST, VERSION, VOXELS, Header, Manifest, Record
from ssl3d.data.store import Store
from ssl3d.dataset import Case, Dataset
from ssl3d.errors import DataError

JOURNAL = "journal.jsonl"
SPLITS = ("train", "test")  # that a data set needs, unless outer folds take their place
Progress = Callable[[int, int], None]


def pack(dataset: Dataset, folder: Path, progress: Progress | None = None, splits: Sequence[str] = SPLITS) -> Store:
    """Pack a data set, or open the store where it is packed already and unchanged.

    Unchanged means: the same cases, labels and splits, from files of the same size and time.

    Args:
        dataset: what to pack.
        folder: of the store; made if absent. Nothing is written outside it.
        progress: called with (volumes done, all volumes).
        splits: that must have a case.

    Raises:
        DataError: a fault of the data set, of any volume, or a folder that cannot be written.
    """
    cases = planned(dataset, splits)
    header = _header(dataset)
    try:
        if _current(dataset, cases, header, folder):
            return Store.open(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            if not _current(dataset, cases, header, folder):  # it may have been packed while this process waited
                if (folder / MANIFEST).exists():
                    _clear(folder)
                records = _write(dataset, cases, folder, header, progress)
                Manifest.of(header, tuple(records)).write(folder)
                (folder / JOURNAL).unlink()
    except OSError as error:
        raise DataError(f"the packed store cannot be written to {folder} ({error.strerror}); choose another") from error
    return Store.open(folder)


def _current(dataset: Dataset, cases: list[Case], header: Header, folder: Path) -> bool:
    """Whether a folder holds the data set, complete and unchanged.

    Raises:
        DataError: it holds a store of another data set, or what is no store.
    """
    if not (folder / MANIFEST).exists():
        if (folder / VOXELS).exists() and not (folder / JOURNAL).exists():
            raise DataError(f"{folder / VOXELS} is there and was not packed by ssl3d; choose another folder")
        return False
    manifest = Manifest.read(folder)  # what is not ours is not overwritten: this raises
    if manifest.name != dataset.name:
        raise DataError(f"{folder} holds the packed volumes of {manifest.name}, not {dataset.name}; choose another")
    return _unchanged(manifest, header, dataset, cases) and _length(folder) == manifest.size


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes that pack; wait for one that does."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _length(folder: Path) -> int:
    path = folder / VOXELS
    return path.stat().st_size if path.is_file() else 0


def _clear(folder: Path) -> None:
    """Remove a store that is out of date, its manifest first. Whoever has it open keeps the old voxels."""
    for name in (MANIFEST, JOURNAL, VOXELS):
        (folder / name).unlink(missing_ok=True)


def planned(dataset: Dataset, splits: Sequence[str] = SPLITS) -> list[Case]:
    """Return the cases of a data set, checked as far as that goes without voxels.

    Args:
        dataset: to be checked.
        splits: that must have a case.

    Raises:
        DataError: a fault of the tables, two cases of one id, an id that no table can hold, or no case to train on or
            to test on.
    """
    cases = dataset.cases()
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise DataError(f"{dataset.name}: {case.source}: case {case.id} is there twice; ids must be unique")
        seen.add(case.id)
        if any(unicodedata.category(sign) in {"Cc", "Cs"} for sign in case.id):
            raise DataError(
                f"{dataset.name}: {case.source}: case {case.id!r} has a control character in its id; rename it"
            )
        unknown = set(case.labels) - set(dataset.tasks)
        if unknown:
            raise DataError(
                f"{dataset.name}: {case.source} is labelled for {min(unknown)!r}, which is no task of the set"
            )
    for split in splits:
        if not any(case.split == split for case in cases):
            raise DataError(
                f"{dataset.name} has no case in the split {split!r}; give it some, or cross-validate with --folds K"
            )
    return cases


def require_packable(volume: np.ndarray, case: Case) -> np.ndarray:
    """Check what a data set's ``read`` returned, and return it contiguous.

    Raises:
        DataError: it is not (C, D, H, W), neither uint8 nor float16, empty, or not in [0, 1] where it is float16.
    """
    where = case.source
    if volume.ndim != 4 or volume.size == 0:
        raise DataError(f"{where} was read with shape {volume.shape}; a volume is (C, D, H, W), none of them 0")
    if volume.dtype not in (np.uint8, np.float16):
        raise DataError(f"{where} was read as {volume.dtype}; a volume is uint8, or float16 in [0, 1]")
    if volume.dtype == np.float16 and not (volume.min() >= 0 and volume.max() <= 1):  # NaN fails, too
        raise DataError(f"{where} was read with float16 values outside [0, 1], or NaN; scale it")
    return np.ascontiguousarray(volume)


def _header(dataset: Dataset) -> Header:
    return Header(
        name=dataset.name,
        tasks=dataset.tasks,
        synthetic=dataset.synthetic,
        view_size=dataset.view_size,
        left_right=dataset.left_right,
    )


def _stamp(dataset: Dataset, case: Case) -> str:
    """Return size and time of the file behind a case; a source may go on after ``#`` inside its file."""
    for name in (case.source, case.source.partition("#")[0]):
        path = dataset.root / name if dataset.root is not None else None
        if path is not None and path.is_file():
            status = path.stat()
            return f"{status.st_size}:{status.st_mtime_ns}"
    return ""


def _matches(record: Record, case: Case, stamp: str) -> bool:
    """Say whether a record holds the voxels of this case as they are now."""
    return (record.id, record.source, record.stamp) == (case.id, case.source, stamp)


def _unchanged(manifest: Manifest, header: Header, dataset: Dataset, cases: list[Case]) -> bool:
    return (
        manifest.header == header
        and len(manifest.cases) == len(cases)
        and all(
            _matches(record, case, _stamp(dataset, case))
            and (record.split, record.labels) == (case.split, dict(case.labels))
            for record, case in zip(manifest.cases, cases, strict=True)
        )
    )


def _write(
    dataset: Dataset, cases: list[Case], folder: Path, header: Header, progress: Progress | None
) -> list[Record]:
    """Write the voxels of all cases, going on after those that an interrupted pack left complete."""
    with (folder / VOXELS).open("a+b") as voxels, (folder / JOURNAL).open("a+", encoding="utf-8") as journal:
        records = _resume(dataset, cases, voxels, journal, header)
        for case in cases[len(records) :]:
            if progress:
                progress(len(records), len(cases))
            record = _append(dataset, case, voxels)
            if records and record.dtype != records[0].dtype:
                raise DataError(f"{case.source} was read as {record.dtype}, others as {records[0].dtype}; use one type")
            _note(journal, record.model_dump_json())
            records.append(record)
        voxels.flush()
        os.fsync(voxels.fileno())
    if progress:
        progress(len(cases), len(cases))
    return records


def _append(dataset: Dataset, case: Case, voxels: IO[bytes]) -> Record:
    """Read one volume, write its voxels, and return its record."""
    stamp = _stamp(dataset, case)  # before reading: a file that changes meanwhile is packed again
    volume = require_packable(dataset.read(case), case)
    std = float(volume.std(dtype=np.float64))
    offset = voxels.seek(0, os.SEEK_END)
    voxels.write(volume.data)
    voxels.flush()  # the voxels are there before the journal says so
    return Record(
        id=case.id,
        split=case.split,
        source=case.source,
        labels=dict(case.labels),
        stamp=stamp,
        shape=volume.shape,
        dtype=volume.dtype.name,
        offset=offset,
        mean=float(volume.mean(dtype=np.float64)),
        std=std if std > 0 else 1.0,
        sha256=hashlib.sha256(volume.data).hexdigest(),
    )


def _note(journal: IO[str], line: str) -> None:
    journal.write(line + "\n")
    journal.flush()


def _resume(dataset: Dataset, cases: list[Case], voxels: IO[bytes], journal: IO[str], header: Header) -> list[Record]:
    """Return the complete volumes of an interrupted pack of the same data set, and cut off everything after them."""
    journal.seek(0)
    title = f"{VERSION} {header.name}"
    records: list[Record] = []
    if journal.readline() == title + "\n":
        for case, line in zip(cases, journal, strict=False):
            record = _recovered(line, case, _stamp(dataset, case), voxels, records[-1].end if records else 0)
            if record is None:
                break
            records.append(record)
    voxels.truncate(records[-1].end if records else 0)
    journal.seek(0)
    journal.truncate()
    for line in _lines(title, records):
        _note(journal, line)
    return records


def _recovered(line: str, case: Case, stamp: str, voxels: IO[bytes], offset: int) -> Record | None:
    """Return the record of a journal line if its voxels are complete and still those of the case; else None."""
    try:
        record = Record.model_validate_json(line)
    except ValidationError:  # cut short when the process was killed: this volume is packed again
        return None
    voxels.seek(offset)
    if not _matches(record, case, stamp) or record.offset != offset:
        return None
    if hashlib.sha256(voxels.read(record.end - offset)).hexdigest() != record.sha256:
        return None
    return record.model_copy(update={"split": case.split, "labels": dict(case.labels)})


def _lines(title: str, records: list[Record]) -> Iterator[str]:
    yield title
    for record in records:
        yield record.model_dump_json()

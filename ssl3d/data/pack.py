"""Packing a data set into a store: every volume is read, checked and written once; an interrupted pack is resumed.

While packing, a journal lists the volumes that are complete in ``volumes.bin``. The manifest is written last and
atomically, and the journal removed, so a store without a manifest is incomplete. If several processes need a store,
one packs it and the others wait.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

import numpy as np

from ssl3d.data.check_cases import SPLITS, checked_cases
from ssl3d.data.journal import JOURNAL, facts, holds, note, resume, stamp
from ssl3d.data.manifest import DAMAGED, MANIFEST, VOXELS, DamagedStoreError, Header, Manifest, Record, fingerprint
from ssl3d.data.packable import require_packable
from ssl3d.data.store import Store
from ssl3d.dataset import Case, Dataset
from ssl3d.errors import DataError
from ssl3d.files import remove_partial, write_atomic

Progress = Callable[[int, int], None]


def pack(
    dataset: Dataset,
    folder: Path,
    progress: Progress | None = None,
    splits: Sequence[str] = SPLITS,
    repair: Callable[[str], object] | None = None,
) -> Store:
    """Pack a data set, or open its store if it is already packed and unchanged.

    Unchanged means the same cases, targets, patients and splits, from files of the same size and time. A store known to
    be damaged is packed again.

    Args:
        dataset: data set to pack.
        folder: folder of the store; made if missing. Nothing is written outside it.
        progress: called with (volumes done, total volumes).
        splits: splits that must have a case and may not share a patient.
        repair: called with a sentence before a damaged store is packed again. If None, a manifest that cannot be parsed
            is refused: it may not be ours.

    Raises:
        DataError: the data set or a volume has a fault, or a folder cannot be written.
    """
    cases = checked_cases(dataset, splits)
    header = _header(dataset)
    try:
        if _state(dataset, cases, header, folder, repair is not None) == "current":
            return Store.open(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            state = _state(dataset, cases, header, folder, repair is not None)  # another process may have packed it
            if state != "current":
                if state == "damaged" and repair is not None:
                    repair(f"the packed volumes in {folder} are damaged: {dataset.name} is packed again")
                if state != "incomplete":
                    _clear(folder)
                remove_partial(folder, MANIFEST)
                (folder / DAMAGED).unlink(missing_ok=True)
                records = _write(dataset, cases, folder, header, progress)
                Manifest.of(header, tuple(records)).write(folder)
                (folder / JOURNAL).unlink()
    except OSError as error:
        if error.errno == errno.ELOOP:  # of O_NOFOLLOW
            raise DataError(
                f"{error.filename} is a symbolic link, which is not followed when volumes are packed; remove the link"
            ) from error
        raise DataError(f"the packed store cannot be written to {folder} ({error.strerror}); choose another") from error
    return Store.open(folder)


def mark_damaged(error: DamagedStoreError) -> None:
    """Mark a damaged store, so that the next :func:`pack` packs it again.

    Raises:
        RunError: its folder cannot be written.
    """
    if error.folder is not None:
        write_atomic(error.folder / DAMAGED, f"{error}\n")


def _header(dataset: Dataset) -> Header:
    return Header(**{name: getattr(dataset, name) for name in Header.model_fields})


def _state(
    dataset: Dataset, cases: list[Case], header: Header, folder: Path, ours: bool
) -> Literal["incomplete", "damaged", "outdated", "current"]:
    """Compare the content of a folder with the data set.

    Raises:
        DataError: it holds a store of another data set, a file that is not a store or, unless the folder is known to be
            ours, a manifest that cannot be parsed.
    """
    if not (folder / MANIFEST).exists():
        if (folder / VOXELS).exists() and not (folder / JOURNAL).exists():
            raise DataError(f"{folder / VOXELS} exists and was not packed by ssl3d; choose another folder")
        return "incomplete"
    try:
        manifest = Manifest.read(folder)
    except DamagedStoreError:
        if ours:
            return "damaged"
        raise
    if manifest.name != dataset.name:
        raise DataError(f"{folder} holds the packed volumes of {manifest.name}, not {dataset.name}; choose another")
    if not _unchanged(manifest, header, dataset, cases):
        return "outdated"
    path = folder / VOXELS
    whole = path.is_file() and path.stat().st_size == manifest.size
    sound = whole and not (folder / DAMAGED).exists()
    return "current" if sound and fingerprint(manifest.tasks, manifest.cases) == manifest.fingerprint else "damaged"


def _unchanged(manifest: Manifest, header: Header, dataset: Dataset, cases: list[Case]) -> bool:
    return (
        manifest.header == header
        and len(manifest.cases) == len(cases)
        and all(
            holds(record, case, stamp(dataset, case)) and record == record.model_copy(update=facts(case))
            for record, case in zip(manifest.cases, cases, strict=True)
        )
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes that pack; wait for one that holds it."""
    handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _clear(folder: Path) -> None:
    """Remove a store, its manifest last, so that an interruption leaves it damaged. Open stores keep the old voxels."""
    for name in (VOXELS, JOURNAL, MANIFEST):
        (folder / name).unlink(missing_ok=True)


def _write(
    dataset: Dataset, cases: list[Case], folder: Path, header: Header, progress: Progress | None
) -> list[Record]:
    """Write the voxels of all cases, after the complete ones of an interrupted pack."""
    with (
        # The journal first: voxels without one are taken for someone else's file.
        open(folder / JOURNAL, "a+", encoding="utf-8", opener=_not_following) as journal,
        open(folder / VOXELS, "a+b", opener=_not_following) as voxels,
    ):
        records = resume(dataset, cases, voxels, journal, header)
        for case in cases[len(records) :]:
            if progress:
                progress(len(records), len(cases))
            record = _append(dataset, case, voxels)
            if records and record.dtype != records[0].dtype:
                raise DataError(f"{case.source} was read as {record.dtype}, others as {records[0].dtype}; use one type")
            note(journal, record.model_dump_json())
            records.append(record)
        voxels.flush()
        os.fsync(voxels.fileno())
    if progress:
        progress(len(cases), len(cases))
    return records


def _not_following(path: str, flags: int) -> int:
    """Open a file without following a symbolic link that was put in its place."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _append(dataset: Dataset, case: Case, voxels: IO[bytes]) -> Record:
    """Read one volume, write its voxels, and return its record."""
    before = stamp(dataset, case)  # before reading, so that a file that changes meanwhile is packed again
    volume = dataset.read(case)
    array = require_packable(volume, case)
    std = float(array.std(dtype=np.float64))
    offset = voxels.seek(0, os.SEEK_END)
    voxels.write(array.data)
    voxels.flush()  # the voxels are written before the journal lists them
    return Record(
        id=case.id,
        split=case.split,
        source=case.source,
        patient=case.patient,
        exam=case.exam,
        targets=dict(case.targets),
        stamp=before,
        spacing=volume.spacing,
        shape=array.shape,
        dtype=array.dtype.name,
        offset=offset,
        mean=float(array.mean(dtype=np.float64)),
        std=std if std > 0 else 1.0,
        sha256=hashlib.sha256(array.data).hexdigest(),
    )

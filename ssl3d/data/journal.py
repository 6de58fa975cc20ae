"""The journal of a pack: one line for the data set and one per complete volume in ``volumes.bin``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import IO

from pydantic import ValidationError

from ssl3d.data.manifest import VERSION, Header, Record
from ssl3d.dataset import Case, Dataset

JOURNAL = "journal.jsonl"


def resume(
    dataset: Dataset, cases: Sequence[Case], voxels: IO[bytes], journal: IO[str], header: Header
) -> list[Record]:
    """Return the complete volumes of an interrupted pack of the same data set, and truncate everything after them.

    Args:
        dataset: data set being packed.
        cases: cases of the data set, in order.
        voxels: the open file of voxels.
        journal: the open journal; rewritten with the complete volumes.
        header: header of the data set.
    """
    journal.seek(0)
    title = f"{VERSION} {header.name}"
    records: list[Record] = []
    if journal.readline() == title + "\n":
        for case, line in zip(cases, journal, strict=False):
            record = _recovered(line, case, stamp(dataset, case), voxels, records[-1].end if records else 0)
            if record is None:
                break
            records.append(record)
    voxels.truncate(records[-1].end if records else 0)
    journal.seek(0)
    journal.truncate()
    for line in [title, *(record.model_dump_json() for record in records)]:
        note(journal, line)
    return records


def note(journal: IO[str], line: str) -> None:
    """Append a line."""
    journal.write(line + "\n")
    journal.flush()


def stamp(dataset: Dataset, case: Case) -> str:
    """Return size and time of the file behind a case; the source may continue after ``#`` inside its file."""
    for name in (case.source, case.source.partition("#")[0]):
        path = dataset.root / name if dataset.root is not None else None
        if path is not None and path.is_file():
            status = path.stat()
            return f"{status.st_size}:{status.st_mtime_ns}"
    return ""


def holds(record: Record, case: Case, stamp: str) -> bool:
    """Return whether a record holds the current voxels of this case."""
    return (record.id, record.source, record.stamp) == (case.id, case.source, stamp)


def _recovered(line: str, case: Case, stamp: str, voxels: IO[bytes], offset: int) -> Record | None:
    """Return the record of a journal line if its voxels are complete and still the case's; else None."""
    try:
        record = Record.model_validate_json(line)
    except ValidationError:  # cut short when the process was killed: this volume is packed again
        return None
    voxels.seek(offset)
    if not holds(record, case, stamp) or record.offset != offset:
        return None
    if hashlib.sha256(voxels.read(record.end - offset)).hexdigest() != record.sha256:
        return None
    return record.model_copy(update=facts(case))


def facts(case: Case) -> dict[str, object]:
    """Return the fields that a record copies from its case: they may change without reading the voxels again."""
    return {"split": case.split, "patient": case.patient, "exam": case.exam, "targets": dict(case.targets)}

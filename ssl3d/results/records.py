"""Records on disk: written last and atomically, and read with their hashes checked. Loads no torch.

A record's file is the JSON of its model (:mod:`ssl3d.results.model`) and ``content_sha256``, the hash of the rest. The
record lists the hashes of the artifact's other files, so an edited or truncated file is detected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ssl3d.errors import RunError
from ssl3d.files import write_atomic
from ssl3d.recipe import canonical
from ssl3d.results.folder import RECORDS
from ssl3d.results.model import ArtifactRecord

R = TypeVar("R", bound=ArtifactRecord)
M = TypeVar("M", bound=BaseModel)
CONTENT = "content_sha256"
AGAIN = "the same `ssl3d bench` command makes it again"


class DamagedError(RunError):
    """A file of an artifact is missing, truncated, edited, or differs from its record."""


def write_record(
    folder: Path, record: R, contents: Mapping[str, str | bytes] | None = None, *, also: Iterable[str] = ()
) -> R:
    """Write an artifact's files and then its record, each atomically; return the record with their hashes.

    Args:
        folder: folder of the artifact.
        record: its ``files`` are filled in.
        contents: files to write, by name.
        also: names of existing files.

    Raises:
        RunError: the folder cannot be written.
    """
    hashes = {}
    for name, content in (contents or {}).items():
        data = content if isinstance(content, bytes) else content.encode()
        write_atomic(folder / name, data, more_follow=True)
        hashes[name] = sha256(data)
    hashes |= {name: file_sha256(folder / name) for name in also}
    whole = record.model_copy(update={"files": hashes})
    write_model(folder / RECORDS[type(record)], whole)
    return whole


def read_record(folder: Path, kind: type[R]) -> R:
    """Return the record of an artifact.

    Raises:
        DamagedError: it is missing, damaged, edited, of another schema version, or in another artifact's folder.
    """
    path = folder / RECORDS[kind]
    record = read_model(path, kind)
    if record.name.rpartition("/")[2] != folder.name:
        raise DamagedError(
            f"{path} is the record of {record.name!r} and lies in the folder of another artifact; {AGAIN}"
        )
    return record


def find_record(folder: Path, kind: type[R], *, key: str | None = None) -> R | None:
    """Return the record of an artifact; None if it is missing, damaged, or has another key."""
    if not (folder / RECORDS[kind]).is_file():
        return None
    try:
        record = read_record(folder, kind)
    except DamagedError:
        return None
    return record if key in (None, record.key) else None


def sound(folder: Path, record: ArtifactRecord) -> bool:
    """Return whether all files in a record exist with the recorded hashes."""
    return all(
        (folder / name).is_file() and file_sha256(folder / name) == digest for name, digest in record.files.items()
    )


def read_file(folder: Path, record: ArtifactRecord, name: str) -> bytes:
    """Return the bytes of a file of an artifact, checked against the record.

    Raises:
        DamagedError: the file is not in the record, or it is missing, unreadable or changed.
    """
    path = folder / name
    if name not in record.files:
        raise DamagedError(f"{folder} has no {name}")
    data = read_bytes(path)
    if sha256(data) != record.files[name]:
        raise DamagedError(f"{path} was changed or cut short after it was written (its hash differs); {AGAIN}")
    return data


def write_model(path: Path, model: BaseModel) -> None:
    """Write a model as JSON, with the hash of its content.

    Raises:
        RunError: the folder cannot be written.
    """
    content = model.model_dump(mode="json")
    content[CONTENT] = sha256(canonical(content).encode())
    write_atomic(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_model(path: Path, kind: type[M]) -> M:
    """Return a model written by :func:`write_model`.

    Raises:
        DamagedError: it is missing, not JSON, edited, of another schema version, or not of this kind.
    """
    content = read_json(path)
    expected = content.pop(CONTENT, None)
    version, known = content.get("schema_version"), kind.model_fields["schema_version"].default
    if version != known:
        raise DamagedError(f"{path} has schema version {version!r}, and this ssl3d reads {known}; {AGAIN}")
    if sha256(canonical(content).encode()) != expected:
        raise DamagedError(f"{path} was changed after it was written (its content hash differs); {AGAIN}")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise DamagedError(f"{path}: {field}: {first['msg'].lower()}; {AGAIN}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; raises DamagedError if the file contains none."""
    try:
        content = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is not valid JSON ({str(error).splitlines()[0]}); {AGAIN}") from error
    if not isinstance(content, dict):
        raise DamagedError(f"{path} holds no JSON object; {AGAIN}")
    return content


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes; raises DamagedError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DamagedError(f"{path} cannot be read ({error.strerror}); {AGAIN}") from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; raises DamagedError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DamagedError(f"{path} cannot be read ({error.strerror}); {AGAIN}") from error


def sha256(data: bytes) -> str:
    """Return the SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()

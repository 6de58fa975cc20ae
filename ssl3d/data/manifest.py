"""The manifest of a packed store, which describes its bytes. Loads no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from ssl3d.dataset import Spacing
from ssl3d.errors import DataError, printable
from ssl3d.files import write_atomic
from ssl3d.recipe import canonical
from ssl3d.task import Target, Task

VERSION = 1
MANIFEST = "manifest.json"
VOXELS = "volumes.bin"
DAMAGED = "damaged.txt"  # why a store must be packed again: written when damage is found during use
AGAIN = "the same `ssl3d bench` command packs it again"


class DamagedStoreError(DataError):
    """The voxels or the manifest of a packed store are not those that were packed.

    Attributes:
        folder: folder of the store; None if another store has replaced it.
    """

    def __init__(self, message: str, folder: Path | None) -> None:
        super().__init__(message, folder)  # both: it is pickled if a run has several processes
        self.folder = folder

    def __str__(self) -> str:
        return printable(f"{self.args[0]}; {AGAIN}", keep="\n")


class Record(BaseModel):
    """One volume of a store.

    Attributes:
        id, split, source, patient, exam, targets: see :class:`ssl3d.dataset.Case`.
        stamp: size and time of the source file when it was read; "" if there is no file.
        spacing: millimetres between slices, rows and columns; None if unknown.
        shape: (C, D, H, W).
        dtype: dtype of the voxels; one for the whole store.
        offset: byte offset of the first voxel in ``volumes.bin``.
        mean: mean of the voxels.
        std: their standard deviation; 1 if they are constant.
        sha256: hash of the voxels' bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    id: str
    split: str
    source: str
    patient: str
    exam: str
    targets: dict[str, Target]
    stamp: str
    spacing: Spacing | None
    shape: tuple[int, int, int, int]
    dtype: Literal["uint8", "float16"]
    offset: int
    mean: float
    std: float
    sha256: str

    @property
    def voxels(self) -> int:
        """Number of voxels in all channels."""
        C, D, H, W = self.shape
        return C * D * H * W

    @property
    def end(self) -> int:
        """Offset of the first byte after the volume."""
        return self.offset + self.voxels * np.dtype(self.dtype).itemsize

    @property
    def content(self) -> list[Any]:
        """Plain values that are equal for volumes with the same voxels: [shape, dtype, sha256]."""
        return [list(self.shape), self.dtype, self.sha256]


class Header(BaseModel):
    """A store's description of its data set; the fields are those of :class:`ssl3d.dataset.Dataset`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    family: str
    tasks: tuple[Task, ...]
    synthetic: bool
    knows_patients: bool
    view_size: tuple[int, int, int]
    left_right: int | None


class Manifest(Header):
    """A store's header, its volumes in order, and the hash of them all."""

    format: Literal[1] = 1
    cases: tuple[Record, ...]
    fingerprint: str

    @classmethod
    def of(cls, header: Header, cases: tuple[Record, ...]) -> Manifest:
        """Make the manifest of complete volumes."""
        return cls(**dict(header), cases=cases, fingerprint=fingerprint(header.tasks, cases))

    @property
    def header(self) -> Header:
        """Everything except the volumes."""
        return Header(**{name: getattr(self, name) for name in Header.model_fields})

    @property
    def size(self) -> int:
        """Size of ``volumes.bin`` in bytes."""
        return self.cases[-1].end if self.cases else 0

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a store.

        Raises:
            DamagedStoreError: it is damaged.
            DataError: there is none, it cannot be read, or its version is unknown.
        """
        path = folder / MANIFEST
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"{folder} holds no complete packed store ({MANIFEST} is missing); pack it again") from None
        except OSError as error:  # says nothing about its content
            raise DataError(f"{path} cannot be read ({error.strerror}); allow reading it, or pack elsewhere") from error
        except (ValueError, RecursionError) as error:  # RecursionError: nested thousands deep
            raise DamagedStoreError(f"{path} is damaged ({error})", folder) from error
        version = plain.get("format") if isinstance(plain, dict) else None
        if version != VERSION:
            raise DataError(
                f"{path} has format {version!r} where this version reads {VERSION}; pack into another folder"
            )
        try:
            return cls.model_validate(plain)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise DamagedStoreError(f"{path} is damaged ({field}: {first['msg']})", folder) from error

    def write(self, folder: Path) -> None:
        """Write the manifest atomically.

        Raises:
            RunError: the folder cannot be written.
        """
        write_atomic(folder / MANIFEST, self.model_dump_json(indent=1))


def fingerprint(tasks: Sequence[Task], cases: Sequence[Record]) -> str:
    """Hash tasks, ids, splits, patients, targets and voxels, independently of the place and the source files.

    Returns:
        SHA-256, hexadecimal.
    """
    rows = [[case.id, case.split, case.patient, plain_targets(case.targets), case.content] for case in cases]
    return sha256([[task.model_dump(mode="json") for task in tasks], rows])


def plain_targets(targets: Mapping[str, Target]) -> dict[str, Any]:
    """Return targets as JSON values."""
    return {name: list(target) if isinstance(target, tuple) else target for name, target in targets.items()}


def sha256(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON of plain values, hexadecimal."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()

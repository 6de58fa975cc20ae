"""The manifest of a packed store: what its bytes are. Loads no torch."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from ssl3d.errors import DataError

VERSION = 1
MANIFEST = "manifest.json"
VOXELS = "volumes.bin"


class Record(BaseModel):
    """One volume of a store.

    Attributes:
        id, split, source, labels: as in :class:`ssl3d.dataset.Case`.
        stamp: size and time of the source file when it was read; "" where there is no file.
        shape: (C, D, H, W).
        dtype: of the voxels; one for the whole store.
        offset: of the first voxel in ``volumes.bin``, in bytes.
        mean: of the voxels.
        std: their standard deviation; 1 where they are constant.
        sha256: of the voxels' bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    split: str
    source: str
    labels: dict[str, int]
    stamp: str
    shape: tuple[int, int, int, int]
    dtype: Literal["uint8", "float16"]
    offset: int
    mean: float
    std: float
    sha256: str

    @property
    def voxels(self) -> int:
        """Number of voxels, all channels together."""
        C, D, H, W = self.shape
        return C * D * H * W

    @property
    def end(self) -> int:
        """Offset of the first byte after the volume."""
        return self.offset + self.voxels * np.dtype(self.dtype).itemsize


class Header(BaseModel):
    """What a store says of its data set as a whole; the fields are those of :class:`ssl3d.dataset.Dataset`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    tasks: tuple[str, ...]
    synthetic: bool
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
        return cls(**header.model_dump(), cases=cases, fingerprint=fingerprint(cases))

    @property
    def header(self) -> Header:
        """Everything but the volumes."""
        return Header(**self.model_dump(include=set(Header.model_fields)))

    @property
    def size(self) -> int:
        """Bytes that ``volumes.bin`` has."""
        return self.cases[-1].end if self.cases else 0

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a store.

        Raises:
            DataError: there is none, it is damaged, or of a version that is not known.
        """
        path = folder / MANIFEST
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"{folder} holds no complete packed store ({MANIFEST} is missing); pack it again") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is damaged ({error}); remove {folder} and pack it again") from error
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
            raise DataError(
                f"{path} is damaged ({field}: {first['msg']}); remove {folder} and pack it again"
            ) from error

    def write(self, folder: Path) -> None:
        """Write the manifest in one step: it is there whole, or not at all."""
        partial = folder / f"{MANIFEST}.partial"
        with partial.open("w", encoding="utf-8") as file:
            file.write(self.model_dump_json(indent=1))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / MANIFEST)


def fingerprint(cases: tuple[Record, ...]) -> str:
    """Hash ids, splits, labels, shapes and voxels: the same wherever, and from whatever files, they were packed."""
    rows = [[case.id, case.split, case.labels, case.shape, case.dtype, case.sha256] for case in cases]
    return hashlib.sha256(json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

"""Helpers that make damaged, hostile or misnamed files, and the folders that hold them."""

from __future__ import annotations

import gzip
import io
import os
import socket
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.data.scans import GREY

Make = Callable[[Path], object]
MIB = 2**20
FULL = GREY.tobytes("F")
TABLE = "path,tumour,split\na.npy,0,train\nb.npy,1,train\nc.npy,0,test\nd.npy,1,test\n"


@dataclass(frozen=True)
class Bad:
    """One bad input of ``ssl3d data check``.

    Attributes:
        name: of the row.
        make: puts it into a root of four sound volumes.
        words: that the one sentence must hold.
        code: exit code; 1 for a fault of the data, 2 for wrong arguments.
        arguments: after ``data check``; "{root}" is the root.
        nobody: whether it is run as a user who is not root.
    """

    name: str
    make: Make
    words: tuple[str, ...]
    code: int = 1
    arguments: tuple[str, ...] = ("--data", "folder", "--root", "{root}")
    nobody: bool = False


def sound_root(root: Path) -> None:
    """Make four volumes of two classes and their table."""
    root.mkdir()
    rng = np.random.default_rng(1)
    for name in "abcd":
        np.save(root / f"{name}.npy", rng.integers(0, 1000, GREY.shape, np.int16))
    (root / "labels.csv").write_text(TABLE)


def volume(name: str, content: bytes | Make) -> Make:
    """Add a fifth volume: bytes, or whatever a function puts at its path."""

    def make(root: Path) -> None:
        with (root / "labels.csv").open("a") as table:
            table.write(f"{name},0,train\n")
        if isinstance(content, bytes):
            (root / name).write_bytes(content)
        else:
            content(root / name)

    return make


def table(content: bytes | str | Make, name: str = "labels.csv") -> Make:
    """Replace the table."""

    def make(root: Path) -> None:
        (root / "labels.csv").unlink()
        if callable(content):
            content(root / name)
        else:
            (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def row(text: str) -> Make:
    """Add a row to the table."""
    return table(f"{TABLE}{text}\n")


def column(header: str, values: Sequence[str]) -> Make:
    """Replace the labels by a column of four values."""
    splits = ("train", "train", "test", "test")
    rows = (f"{name}.npy,{value},{split}" for name, value, split in zip("abcd", values, splits, strict=True))
    return table("\n".join([f"path,{header},split", *rows]))


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def unix_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket has 107 bytes at most
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(here)


def link_to(target: str) -> Make:
    """Link to a path; "" is the link itself."""
    return lambda path: path.symlink_to(target or path.name)


def unreadable(path: Path) -> None:
    path.write_bytes(b"x")
    path.chmod(0)


def sparse(size: int, start: bytes = b"") -> Make:
    """Write a file of which only the start is on disk."""

    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.write(start)
            file.truncate(size)

    return make


def nifti(data: bytes = FULL, /, two: bool = False, order: str = "<", **fields: Any) -> bytes:
    """Return an uncompressed NIfTI file of GREY, with fields of its header changed.

    Args:
        data: bytes of the voxels.
        two: NIfTI-2.
        order: of the bytes.
        fields: name and value; ``dim_0`` is one element of an array, ``dim`` its first elements.
    """
    import nibabel  # type: ignore[import-untyped,unused-ignore]

    kind: Any = nibabel.Nifti2Header if two else nibabel.Nifti1Header
    header = kind(endianness=order)
    header.set_data_shape(GREY.shape)
    header.set_data_dtype(GREY.dtype)
    header.set_sform(np.eye(4), 1)
    header["scl_slope"], header["scl_inter"], header["vox_offset"] = 1, 0, 544 if two else 352
    for name, value in fields.items():
        field, _, place = name.rpartition("_")
        if place.isdigit():
            header[field][int(place)] = value
        elif isinstance(value, tuple):
            header[name][: len(value)] = value
        else:
            header[name] = value
    return bytes(header.binaryblock) + bytes(4) + data


def zipped(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


def flipped(content: bytes, place: int) -> bytes:
    """Return bytes of which one, counted from the end where negative, has another value."""
    changed = bytearray(content)
    changed[place] ^= 0x55
    return bytes(changed)


def bomb(start: bytes, mebibytes: int) -> bytes:
    """Return a gzip file of ``start`` and many mebibytes of zeros, in members of 16."""
    return zipped(start) + zipped(bytes(16 * MIB)) * (mebibytes // 16)


def npy(
    header: str | bytes = "", data: bytes = GREY.tobytes(), version: tuple[int, int] = (1, 0), **fields: str
) -> bytes:
    """Return an .npy file; ``fields`` replace those of the header of GREY, as Python text."""
    plain = {"descr": "'<i2'", "fortran_order": "False", "shape": str(GREY.shape)} | fields
    text = header or "{" + ", ".join(f"'{name}': {value}" for name, value in plain.items()) + "}\n"
    raw = text if isinstance(text, bytes) else text.encode("utf-8")
    length = struct.pack("<H" if version == (1, 0) else "<I", len(raw))
    return b"\x93NUMPY" + bytes(version) + length + raw + data


def saved(array: np.ndarray) -> bytes:
    """Return what ``numpy.save`` writes."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


SIZES = {"train": 4, "val": 2, "test": 3}  # of a small set laid out as MedMNIST3D's


def members() -> dict[str, bytes]:
    """Return the members of a sound small AdrenalMNIST3D."""
    rng = np.random.default_rng(0)
    found = {}
    for split, count in SIZES.items():
        found[f"{split}_images.npy"] = saved(rng.integers(0, 256, (count, 28, 28, 28), np.uint8))
        found[f"{split}_labels.npy"] = saved(np.arange(count, dtype=np.uint8)[:, None] % 2)
    return found


def npz(changes: dict[str, bytes | None] | None = None, edit: Callable[[bytes], bytes] = bytes) -> Make:
    """Write adrenalmnist3d.npz with members changed or left out, and then its bytes edited."""

    def make(root: Path) -> None:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in (members() | (changes or {})).items():
                if content is not None:
                    archive.writestr(name, content)
        (root / "adrenalmnist3d.npz").write_bytes(edit(file.getvalue()))

    return make


def every(mark: bytes, offset: int, value: bytes) -> Callable[[bytes], bytes]:
    """Overwrite bytes at an offset after every mark: fields of a zip's headers."""

    def edit(content: bytes) -> bytes:
        changed, place = bytearray(content), content.find(mark)
        while place >= 0:
            changed[place + offset : place + offset + len(value)] = value
            place = content.find(mark, place + 1)
        return bytes(changed)

    return edit

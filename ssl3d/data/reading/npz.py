"""Reading arrays of an .npz archive: first the header, then exactly the content that it declares."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from ssl3d.data.reading.files import open_file
from ssl3d.data.reading.voxels import NpyHeader, npy_header

BROKEN = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, struct.error,
    EOFError, OSError, ValueError, OverflowError, UnicodeError,
    RuntimeError,  # encrypted; includes NotImplementedError, an unknown compression
)  # fmt: skip


class ArchiveError(Exception):
    """An archive is damaged or lacks a member; the message is the reason only."""


def read_npz_header(path: Path, key: str, where: str) -> NpyHeader:
    """Return the header of an array whose length matches it exactly.

    Args:
        path: path of the archive.
        key: name of the array.
        where: its name in messages.

    Raises:
        ArchiveError: the archive or the member is damaged or missing.
        DataError: the member is not a plain array of real numbers.
    """
    with _member(path, key, where) as (_, header):
        return header


def read_npz(path: Path, key: str, where: str, require: Callable[[NpyHeader], None]) -> np.ndarray:
    """Return an array.

    Args:
        path: path of the archive.
        key: name of the array.
        where: its name in messages.
        require: raises an error if the header is unexpected; nothing is decompressed before it returns.

    Raises:
        ArchiveError, DataError: see :func:`read_npz_header`.
    """
    with _member(path, key, where) as (member, header):
        require(header)
        content = member.read()  # to its end, where the checksum is compared
        if len(content) != header.size - header.start:
            raise ArchiveError(f"{key} is truncated")
    return header.array(content)


@contextmanager
def _member(path: Path, key: str, where: str) -> Iterator[tuple[IO[bytes], NpyHeader]]:
    """Open an array, positioned after its header."""
    with open_file(path, str(path)) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                name = f"{key}.npy"
                if name not in archive.NameToInfo:
                    raise ArchiveError(f"it has no {key}")
                with archive.open(name) as member:
                    header = npy_header(member, where)
                    size = archive.getinfo(name).file_size
                    if size != header.size:
                        raise ArchiveError(f"{key} has {size} bytes where its header says {header.size}")
                    yield member, header
        except BROKEN as error:
            raise ArchiveError(f"{key} cannot be read: {str(error) or type(error).__name__}") from error

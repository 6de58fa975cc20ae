"""Reading and checking voxels: .npy files without pickle, and checks for unusable volumes."""

from __future__ import annotations

import io
import math
import os
import struct
import tokenize
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from ssl3d.data.reading.files import open_file, require_bounded
from ssl3d.errors import DataError

PERCENTILES = (0.5, 99.5)  # of a volume's own voxels, mapped to 0 and 1
LONGEST_HEADER = 10_000  # bytes, as numpy allows
LENGTHS = {(1, 0): "<H", (2, 0): "<I", (3, 0): "<I"}  # format of the header length, by .npy version
BROKEN_HEADER = (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError, struct.error)


@dataclass(frozen=True)
class NpyHeader:
    """The header of an .npy file.

    Attributes:
        shape: shape of the array.
        fortran: whether the first axis varies fastest.
        dtype: dtype of its elements, real numbers.
        start: byte offset of the first element.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[np.generic]
    start: int

    @property
    def size(self) -> int:
        """Size of the complete file in bytes."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize

    def array(self, content: bytes | bytearray) -> np.ndarray:
        """Return the array whose elements are ``content``."""
        flat: np.ndarray = np.frombuffer(content, self.dtype)
        return flat.reshape(self.shape, order="F" if self.fortran else "C")


def npy_header(file: IO[bytes], where: str) -> NpyHeader:
    """Read the header of an open .npy file, at most 10,000 bytes long.

    Raises:
        DataError: it is not an .npy file, contains pickled Python objects or anything but real numbers, or its shape is
            negative or too large.
    """
    try:
        shape, fortran, dtype, start = _read_header(file)
    except BROKEN_HEADER as error:
        raise DataError(
            f"{where} is not a plain .npy file (empty, cut short, or pickled); restore it or save it with numpy.save"
        ) from error
    if dtype.hasobject:
        raise DataError(f"{where} holds pickled Python objects, which are never loaded; save it as plain numbers")
    if dtype.kind not in "biuf":
        raise DataError(f"{where} holds {str(dtype)[:40]}; real numbers are expected; save it as such")
    require_bounded(shape, where)
    return NpyHeader(shape, fortran, dtype, start)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
    """Return shape, whether the order is Fortran's, dtype, and offset of the first element."""
    start = file.read(8)
    if start[:6] != np.lib.format.MAGIC_PREFIX or tuple(start[6:]) not in LENGTHS:
        raise ValueError("no .npy file, or of an unknown version")
    form = LENGTHS[(start[6], start[7])]
    length = file.read(struct.calcsize(form))
    (count,) = struct.unpack(form, length)
    if count > LONGEST_HEADER:
        raise ValueError("a header longer than any that numpy writes")
    text = file.read(count)
    read = np.lib.format.read_array_header_1_0 if form == "<H" else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on headers written by Python 2, and odd literals
        shape, fortran, dtype = read(io.BytesIO(length + text))
    if dtype.shape or dtype.subdtype or any(type(side) is not int for side in shape):
        raise ValueError("elements that are arrays, or sides that are no numbers")
    return shape, fortran, dtype, len(start) + len(length) + count


def read_npy_header(path: Path, where: str) -> NpyHeader:
    """Open an .npy file, check its length and return its header, without reading voxels.

    Raises:
        DataError: it cannot be opened, is not an .npy file, is pickled, truncated, or longer than its header says.
    """
    with open_file(path, where) as file:
        return _checked_header(file, where)


def read_npy(path: Path, where: str) -> np.ndarray:
    """Return the array of an .npy file, checked as by :func:`read_npy_header`."""
    with open_file(path, where) as file:
        header = _checked_header(file, where)
        array: np.ndarray = np.fromfile(file, header.dtype)
    return array.reshape(header.shape, order="F" if header.fortran else "C")


def _checked_header(file: IO[bytes], where: str) -> NpyHeader:
    """Return the header of a file whose length matches it exactly."""
    try:
        header = npy_header(file, where)
        length = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise DataError(f"{where} cannot be read ({error.strerror}); restore it or remove it from the table") from error
    if length != header.size:
        kind = "truncated" if length < header.size else "damaged"
        raise DataError(f"{where} is {kind}: {length} bytes where its header says {header.size}; restore it")
    return header


def require_voxels(volume: np.ndarray, where: str) -> None:
    """Check that a volume is usable for learning.

    Raises:
        DataError: it is empty, contains NaN or infinity, or is constant.
    """
    if volume.size == 0:
        raise DataError(f"{where} is empty: its shape is {volume.shape}; restore it or remove it from the table")
    if volume.dtype.kind == "f" and not np.isfinite(volume).all():
        bad = int(volume.size - np.isfinite(volume).sum())
        raise DataError(f"{where} holds NaN or infinity in {bad} of {volume.size} voxels; correct it or remove it")
    if volume.min() == volume.max():
        raise DataError(f"{where} is constant: every voxel is {volume.flat[0]}; restore it or remove it from the table")


def scale_robustly(volume: np.ndarray) -> np.ndarray:
    """Map a volume's 0.5 and 99.5 percentiles to 0 and 1, clip, and return it as float16.

    If the two are equal, as in a mask with few voxels set, its minimum and maximum are mapped instead.
    """
    values = volume.astype(np.float64)  # exact for all integers but the largest 64-bit ones
    if not math.isfinite(float(values.max()) - float(values.min())):
        values *= 0.25  # numbers so large that their difference overflows
    low, high = np.percentile(values, PERCENTILES)
    if low == high:
        low, high = values.min(), values.max()
    scaled: np.ndarray = np.clip((values - low) / (high - low), 0.0, 1.0).astype(np.float16)
    return scaled

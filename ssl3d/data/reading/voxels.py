"""Reading and checking voxels: .npy files without pickle, and what makes a volume unusable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from ssl3d.errors import DataError

PERCENTILES = (0.5, 99.5)  # of a volume's own voxels, which are mapped to 0 and 1


@dataclass(frozen=True)
class NpyHeader:
    """The header of an .npy file.

    Attributes:
        shape: of the array.
        dtype: of its elements.
        size: bytes that the whole file has if it is complete.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    size: int


def npy_header(file: IO[bytes], where: str) -> NpyHeader:
    """Read the header of an open .npy file.

    Raises:
        DataError: it is not an .npy file, or holds pickled Python objects.
    """
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(
            f"{where} is not a plain .npy file (empty, cut short, or pickled); restore it or save it with numpy.save"
        ) from error
    if dtype.hasobject:
        raise DataError(f"{where} holds pickled Python objects, which are never loaded; save it as plain numbers")
    return NpyHeader(shape, dtype, file.tell() + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)


def read_npy_header(path: Path, where: str) -> NpyHeader:
    """Open an .npy file, check its length and return its header, without reading voxels.

    Raises:
        DataError: it cannot be opened, is not an .npy file, is pickled, truncated, or longer than its header says.
    """
    try:
        with path.open("rb") as file:
            header = npy_header(file, where)
        length = path.stat().st_size
    except OSError as error:
        raise DataError(
            f"{where} cannot be opened ({error.strerror}); restore it or remove it from the table"
        ) from error
    if length != header.size:
        kind = "truncated" if length < header.size else "damaged"
        raise DataError(f"{where} is {kind}: {length} bytes where its header says {header.size}; restore it")
    return header


def read_npy(path: Path, where: str) -> np.ndarray:
    """Return the array of an .npy file, checked as by :func:`read_npy_header`."""
    read_npy_header(path, where)
    array: np.ndarray = np.load(path, allow_pickle=False)
    return array


def require_voxels(volume: np.ndarray, where: str) -> None:
    """Check that a volume holds something to learn from.

    Raises:
        DataError: it is empty, holds NaN or infinity, or is one constant.
    """
    if volume.size == 0:
        raise DataError(f"{where} is empty: its shape is {volume.shape}; restore it or remove it from the table")
    if volume.dtype.kind == "f" and not np.isfinite(volume).all():
        bad = int(volume.size - np.isfinite(volume).sum())
        raise DataError(f"{where} holds NaN or infinity in {bad} of {volume.size} voxels; correct it or remove it")
    if volume.min() == volume.max():
        raise DataError(f"{where} is constant: every voxel is {volume.flat[0]}; restore it or remove it from the table")


def scale_robustly(volume: np.ndarray) -> np.ndarray:
    """Map a volume's own 0.5 and 99.5 percentiles to 0 and 1, clip, and return it as float16.

    Where the two are equal, as in a mask with few voxels set, its minimum and maximum are mapped instead.
    """
    values = volume.astype(np.float64)  # exact for every integer type but the largest 64-bit numbers
    low, high = np.percentile(values, PERCENTILES)
    if low == high:
        low, high = values.min(), values.max()
    scaled: np.ndarray = np.clip((values - low) / (high - low), 0.0, 1.0).astype(np.float16)
    return scaled

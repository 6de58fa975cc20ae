"""Reading NIfTI: canonical axes with slices first, spacing in millimetres, and the left-right axis."""

from __future__ import annotations

import gzip
import importlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from ssl3d.data.reading.files import open_file
from ssl3d.data.reading.nifti_header import LONGEST, NiftiHeader, parse_nifti_header
from ssl3d.dataset import Spacing
from ssl3d.errors import DataError

CHUNK = 2**20  # bytes read at once
TAIL = 2**20  # bytes that may follow the voxels: some writers pad their files
GZIP = b"\x1f\x8b"  # first bytes of a compressed file
COARSER = 1.1  # spacing by which one axis must exceed the others to count as the slices
MILLIMETRES = {"meter": 1000.0, "micron": 0.001}  # per unit of the header; other units are taken as millimetres


@dataclass(frozen=True)
class Geometry:
    """The geometry of a volume from its file's header.

    Attributes:
        shape: (D, H, W).
        spacing: millimetres along these axes; None if unknown.
        left_right: the axis that runs from side to side; None if unknown.
    """

    shape: tuple[int, ...]
    spacing: Spacing | None = None
    left_right: int | None = None


def read_geometry(path: Path, where: str) -> Geometry:
    """Read the header of a NIfTI file.

    Args:
        path: path of the file.
        where: its name in messages.

    Raises:
        DataError: it is not a NIfTI file, or not one three-dimensional volume.
    """
    with _opened(path, where) as file:
        return _geometry(parse_nifti_header(file.read(LONGEST), where), where)[1]


def read_nifti(path: Path, where: str) -> tuple[np.ndarray, Geometry]:
    """Return the voxels (D, H, W) of a NIfTI file, scaled as its header says, and its geometry.

    Axes are brought to canonical order (x to the right, y to the front, z up). D is the axis with the coarsest spacing,
    or z if none is more than 10% coarser than the others; H and W are the other two, the later one first: (z, y, x),
    (y, z, x) or (x, z, y). Memory is bounded by the header, whose sizes are bounded.

    Raises:
        DataError: see :func:`read_geometry`; or the file is truncated, longer than its header says, or damaged.
    """
    nibabel: Any = importlib.import_module("nibabel")
    with _opened(path, where) as file:
        start = file.read(LONGEST)
        header = parse_nifti_header(start, where)
        order, geometry = _geometry(header, where)
        content = _content(file, start, header.size, where)
    stored: np.ndarray = np.frombuffer(memoryview(content)[header.offset : header.size], header.dtype)
    voxels = stored.reshape(header.shape, order="F")
    with np.errstate(all="ignore"):  # overflow gives infinity, which is reported as a fault of the volume
        voxels = nibabel.volumeutils.apply_read_scaling(voxels, np.float64(header.slope), np.float64(header.inter))
    canonical = nibabel.orientations.apply_orientation(voxels, _orientation(header, where))
    return np.asarray(canonical).transpose(order), geometry


@contextmanager
def _opened(path: Path, where: str) -> Iterator[IO[bytes]]:
    """Open a file, decompressed if its content is gzip, whatever its name."""
    with open_file(path, where) as raw:
        try:
            packed = raw.read(2) == GZIP
            raw.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=raw) as file:
                    yield cast("IO[bytes]", file)
            else:
                yield raw
        except (OSError, EOFError, zlib.error) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"{where} is truncated or damaged ({reason}); restore it") from error


def _content(file: IO[bytes], start: bytes, size: int, where: str) -> bytearray:
    """Return at least the first ``size`` bytes of a file, read to the end, where gzip has its checksum."""
    if not isinstance(file, gzip.GzipFile):
        length = os.fstat(file.fileno()).st_size  # type: ignore[unreachable,unused-ignore]
        _require_length(min(length, size), length - size, size, where)
    content = bytearray(start)
    while len(content) < size and (chunk := file.read(min(CHUNK, size - len(content)))):
        content += chunk
    after = max(0, len(content) - size)
    while after <= TAIL and (chunk := file.read(CHUNK)):
        after += len(chunk)
    _require_length(len(content), after, size, where)
    return content


def _require_length(length: int, after: int, size: int, where: str) -> None:
    if length < size:
        raise DataError(f"{where} is truncated: {length} bytes where its header says {size}; restore it")
    if after > TAIL:
        raise DataError(f"{where} is longer than the {size} bytes that its header says, so one is wrong; restore it")


def _orientation(header: NiftiHeader, where: str) -> np.ndarray:
    """Return canonical axis and direction of each axis of the file, (3, 2)."""
    nibabel: Any = importlib.import_module("nibabel")
    try:
        with np.errstate(all="ignore"):
            found = np.asarray(nibabel.io_orientation(header.affine))
    except ValueError:  # numpy's LinAlgError: numbers too large to multiply
        found = np.full((3, 2), np.nan)
    if not np.isfinite(found).all():
        raise DataError(f"{where} has an affine that leaves out an axis; correct its header")
    return found


def _geometry(header: NiftiHeader, where: str) -> tuple[tuple[int, int, int], Geometry]:
    """Return the order of the canonical axes x, y, z that puts the slices first, and the geometry in this order."""
    axes = [int(axis) for axis in np.argsort(_orientation(header, where)[:, 0])]  # axis of the file behind x, y, z
    zooms = [header.zooms[axis] for axis in axes]
    scale = MILLIMETRES.get(header.unit, 1.0)
    order = _slices_first(*zooms)
    D, H, W = (zooms[axis] * scale for axis in order)
    known = all(0 < step < np.inf for step in (D, H, W))
    size = tuple(header.shape[axes[axis]] for axis in order)
    return order, Geometry(size, (D, H, W) if known else None, order.index(0))


def _slices_first(x: float, y: float, z: float) -> tuple[int, int, int]:
    """Return the order of the axes that puts the slices first, from the spacing along each."""
    if x > COARSER * max(y, z):
        return (0, 2, 1)
    if y > COARSER * max(x, z):
        return (1, 2, 0)
    return (2, 1, 0)

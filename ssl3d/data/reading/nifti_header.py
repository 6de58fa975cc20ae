"""The header of a NIfTI file, of either version and byte order, fully checked before use."""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssl3d.data.reading.files import require_bounded
from ssl3d.errors import DataError

LONGEST = 540  # bytes of a header: version 2 has 540, version 1 has 348
VERSIONS = {348: ("Nifti1Header", 344, b"n+1\0", 352), 540: ("Nifti2Header", 4, b"n+2\0\r\n\x1a\n", 544)}
LATEST_START = 2**26  # offset of the voxels in bytes: 64 MiB of extensions before them
MOST_AXES = 7
IGNORED_LEVEL = 100  # above all problems that nibabel repairs, so that it never raises


@dataclass(frozen=True)
class NiftiHeader:
    """The contents of a header.

    Attributes:
        shape: shape of the stored voxels, first axis fastest, without a fourth axis of length 1.
        dtype: dtype of the voxels.
        offset: byte offset of the first voxel.
        slope: factor of stored values.
        inter: added after scaling.
        affine: (4, 4), from voxels to space, finite.
        zooms: spacing along the axes.
        unit: unit of the spacing.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    offset: int
    slope: float
    inter: float
    affine: np.ndarray
    zooms: tuple[float, ...]
    unit: str

    @property
    def size(self) -> int:
        """Number of bytes up to the end of the voxels."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def parse_nifti_header(start: bytes, where: str) -> NiftiHeader:
    """Read the header of a NIfTI file.

    Args:
        start: the first 540 bytes of the file, or all of a shorter one.
        where: its name in messages.

    Raises:
        DataError: it is not a NIfTI header, or describes something that cannot be read.
    """
    raw, least = _raw_header(start, where)
    shape = _shape(raw, where)
    dtype = _dtype(raw, where)
    offset = float(raw["vox_offset"])
    if not (least <= offset <= LATEST_START and offset.is_integer()):
        raise DataError(f"{where} says in its NIfTI header that its voxels begin at byte {offset:g}; restore it")
    slope, inter = _scaling(raw, where)
    _repair(raw)
    affine = _affine(raw, where)
    zooms = tuple(float(step) for step in raw["pixdim"][1:4])
    return NiftiHeader(shape, dtype, int(offset), slope, inter, affine, zooms, _unit(raw))


def require_3d(shape: Iterable[int], where: str) -> tuple[int, ...]:
    """Return a shape without trailing axes of length 1 beyond the third, which some NIfTI writers add.

    Raises:
        DataError: it does not have three axes.
    """
    size = tuple(int(side) for side in shape)
    kept = size[:3] if all(side == 1 for side in size[3:]) else size
    if len(kept) != 3:
        raise DataError(f"{where} has shape {size}; one volume with three axes is expected; split or convert it")
    return kept


def _raw_header(start: bytes, where: str) -> tuple[Any, int]:
    """Return nibabel's unchecked header, and the minimum offset of voxels after it."""
    for order, name in (("<", "little"), (">", "big")):
        length = int.from_bytes(start[:4], name)  # type: ignore[arg-type]
        kind, place, magic, least = VERSIONS.get(length, ("", 0, b"", 0))
        if kind and len(start) >= length and start[place : place + len(magic)] == magic:
            nibabel: Any = importlib.import_module("nibabel")  # a quarter of a second, only for NIfTI users
            return getattr(nibabel, kind)(start[:length], endianness=order, check=False), least
    raise DataError(f"{where} cannot be read as NIfTI (it does not begin with its header); restore or convert it")


def _shape(raw: Any, where: str) -> tuple[int, ...]:
    """Return the shape with three axes, checked to be neither negative nor too large."""
    rank = int(raw["dim"][0])
    if not 1 <= rank <= MOST_AXES:
        raise DataError(f"{where} has {rank} axes in its NIfTI header, where 3 are expected; restore or convert it")
    shape = require_3d(raw["dim"][1 : 1 + rank].tolist(), where)
    if min(shape) < 1:
        raise DataError(f"{where} has shape {shape} in its NIfTI header, and no side can be below 1; restore it")
    require_bounded(shape, where)
    return shape


def _dtype(raw: Any, where: str) -> np.dtype[np.generic]:
    """Return the dtype of the voxels, which must be real numbers."""
    codes: Any = importlib.import_module("nibabel.nifti1").data_type_codes
    code = int(raw["datatype"])
    dtype = np.dtype(codes.dtype[code]) if code in codes.dtype else np.dtype(np.void)
    if dtype.kind == "V" and not dtype.names:
        raise DataError(
            f"{where} has the data type {code} in its NIfTI header, which is unknown; restore or convert it"
        )
    if dtype.kind not in "biuf":
        found = "colours" if dtype.names else dtype
        raise DataError(f"{where} holds {found}; real numbers are expected; save it as such")
    return dtype.newbyteorder(raw.endianness)


def _scaling(raw: Any, where: str) -> tuple[float, float]:
    """Return slope and intercept; a slope of 0 or NaN means no scaling."""
    slope, inter = float(raw["scl_slope"]), float(raw["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(inter)):
        raise DataError(
            f"{where} has the slope {slope} and intercept {inter} in its NIfTI header; correct or restore it"
        )
    return slope, inter


def _repair(raw: Any) -> None:
    """Repair minor faults, such as a negative spacing or an unknown code, as nibabel does when opening a file."""
    quiet = logging.Logger("nifti")  # not nibabel's logger, which prints repairs to the terminal
    quiet.addHandler(logging.NullHandler())
    with np.errstate(all="ignore"):
        raw.check_fix(logger=quiet, error_level=IGNORED_LEVEL)


def _affine(raw: Any, where: str) -> np.ndarray:
    """Return the affine, (4, 4)."""
    broken: Any = importlib.import_module("nibabel.spatialimages").HeaderDataError
    with np.errstate(all="ignore"):
        try:
            affine = np.asarray(raw.get_best_affine(), np.float64)
        except (ValueError, broken):  # a quaternion that is not a rotation
            affine = np.full((4, 4), np.nan)
    if not np.isfinite(affine).all():
        raise DataError(f"{where} has an affine that is not finite in its NIfTI header; correct its header")
    return affine


def _unit(raw: Any) -> str:
    try:
        return str(raw.get_xyzt_units()[0])
    except KeyError:  # an unknown code
        return "unknown"

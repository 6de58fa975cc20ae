"""Reading NIfTI: canonical axes with the slices first, spacing in millimetres, and the axis of left and right."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssl3d.dataset import Spacing
from ssl3d.errors import DataError

COARSER = 1.1  # spacing by which one axis must exceed the others to count as the slices
MILLIMETRES = {"meter": 1000.0, "micron": 0.001}  # of a unit of the header; others are taken for millimetres


@dataclass(frozen=True)
class Geometry:
    """What a file's header says of its volume.

    Attributes:
        shape: (D, H, W).
        spacing: millimetres along these; None where it is unknown.
        left_right: which of these runs from side to side; None where it is unknown.
    """

    shape: tuple[int, ...]
    spacing: Spacing | None = None
    left_right: int | None = None


def read_geometry(path: Path, where: str) -> Geometry:
    """Read the header of a NIfTI file.

    Args:
        path: of the file.
        where: its name in messages.

    Raises:
        DataError: it is not a NIfTI file, or not one volume with three axes.
    """
    return _open(path, where)[2]


def read_nifti(path: Path, where: str) -> tuple[np.ndarray, Geometry]:
    """Return the voxels (D, H, W) of a NIfTI file, scaled as its header says, and what the header says.

    Axes are brought to canonical order (x to the right, y to the front, z up). D is the axis with the coarsest
    spacing, z where none is more than 10% coarser than the others; H and W are the two others, the later one first:
    (z, y, x), (y, z, x) or (x, z, y).

    Raises:
        DataError: as for :func:`read_geometry`, or the file is truncated or damaged.
    """
    nibabel: Any = importlib.import_module("nibabel")
    image, order, geometry = _open(path, where)
    try:
        voxels = np.asanyarray(nibabel.as_closest_canonical(image).dataobj)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{where} is truncated or damaged ({_first_line(error)}); restore it") from error
    return require_3d(voxels, where).transpose(order), geometry


def require_3d(volume: np.ndarray, where: str) -> np.ndarray:
    """Drop trailing axes of length 1 beyond the third, which NIfTI writers like to add.

    Raises:
        DataError: it does not have three axes.
    """
    return volume.reshape(require_rank(volume.shape, where))


def require_rank(shape: Iterable[int], where: str) -> tuple[int, ...]:
    """Return a shape without trailing axes of length 1 beyond the third.

    Raises:
        DataError: it does not have three axes.
    """
    size = tuple(int(side) for side in shape)
    kept = size[:3] if all(side == 1 for side in size[3:]) else size
    if len(kept) != 3:
        raise DataError(f"{where} has shape {size}; one volume with three axes is expected; split or convert it")
    return kept


def _open(path: Path, where: str) -> tuple[Any, tuple[int, int, int], Geometry]:
    """Open a NIfTI image without reading voxels.

    Returns:
        The image; the order of its canonical axes x, y, z that puts the slices first; and its geometry.
    """
    nibabel: Any = importlib.import_module("nibabel")  # a quarter of a second, only for those who have NIfTI
    try:
        image = _load(nibabel, path)
        shape = require_rank(image.shape, where)
        canonical = nibabel.io_orientation(image.affine)[:3, 0]  # canonical axis of each axis of the file
        axes = [int(axis) for axis in np.argsort(canonical)]  # axis of the file behind x, y, z
        zooms = [float(image.header.get_zooms()[axis]) for axis in axes]
        scale = MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, ValueError, KeyError, zlib.error) as error:
        raise DataError(f"{where} cannot be read as NIfTI ({_first_line(error)}); restore it") from error
    if not np.isfinite(canonical).all():
        raise DataError(f"{where} has an affine that leaves out an axis; correct its header")
    order = _slices_first(*zooms)
    D, H, W = (zooms[axis] * scale for axis in order)
    known = all(0 < step < np.inf for step in (D, H, W))
    size = tuple(shape[axes[axis]] for axis in order)
    return image, order, Geometry(size, (D, H, W) if known else None, order.index(0))


def _load(nibabel: Any, path: Path) -> Any:
    """Return the image of a file, whatever the case of its ending: nibabel.load looks for "A.nii" where "A.Nii" is."""
    ending = path.name[path.name.lower().rindex(".nii") :]
    if ending == ending.lower():
        return nibabel.load(path)
    file = nibabel.FileHolder(filename=str(path))
    return nibabel.Nifti1Image.from_file_map({"header": file, "image": file})


def _slices_first(x: float, y: float, z: float) -> tuple[int, int, int]:
    """Return the order of the axes that puts the slices first, from the spacing along each."""
    if x > COARSER * max(y, z):
        return (0, 2, 1)
    if y > COARSER * max(x, z):
        return (1, 2, 0)
    return (2, 1, 0)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]

"""The requirements on a volume to be packed. Loads no torch."""

from __future__ import annotations

import numpy as np

from ssl3d.dataset import Case, Volume
from ssl3d.errors import DataError


def require_packable(volume: Volume, case: Case) -> np.ndarray:
    """Check the return value of a data set's ``read``, and return its voxels contiguous.

    Raises:
        DataError: it is not a :class:`ssl3d.dataset.Volume` of (C, D, H, W), that is uint8, or float16 in
            [0, 1], and not empty, with a spacing of three positive numbers or none.
    """
    where = case.source
    if not isinstance(volume, Volume):
        raise DataError(f"{where} was read as {type(volume).__name__}; return a ssl3d.dataset.Volume")
    voxels = volume.voxels
    if voxels.ndim != 4 or voxels.size == 0:
        raise DataError(f"{where} was read with shape {voxels.shape}; a volume is (C, D, H, W), none of them 0")
    if voxels.dtype not in (np.uint8, np.float16):
        raise DataError(f"{where} was read as {voxels.dtype}; a volume is uint8, or float16 in [0, 1]")
    if voxels.dtype == np.float16 and not (voxels.min() >= 0 and voxels.max() <= 1):  # NaN also fails
        raise DataError(f"{where} was read with float16 values outside [0, 1], or NaN; scale it")
    spacing = volume.spacing
    if spacing is not None and (len(spacing) != 3 or not all(0 < step < np.inf for step in spacing)):
        raise DataError(f"{where} was read with the spacing {spacing}; give three positive millimetres, or None")
    return np.ascontiguousarray(voxels)

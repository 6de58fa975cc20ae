"""Small NIfTI and .npy files of one grey volume, and their table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

GREY = np.random.default_rng(0).integers(0, 1000, (5, 9, 14)).astype(np.int16)


Spoil = Callable[[Path], object]


def save_nifti(path: Path, voxels: np.ndarray, spacing: tuple[float, ...] = (1, 1, 1), flips: Any = (1, 1, 1)) -> None:
    affine = np.diag([*(step * flip for step, flip in zip(spacing, flips, strict=True)), 1.0])
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)  # type: ignore[no-untyped-call]


def rows(text: str) -> Spoil:
    return lambda root: (root / "labels.csv").write_text(text)

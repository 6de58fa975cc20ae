"""Fixtures of the tests of data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.scans import GREY, save_nifti


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three volumes: two NIfTI, one .npy; two tasks, the second known for two of them."""
    folder = tmp_path / "scans"
    folder.mkdir()
    save_nifti(folder / "a.nii.gz", GREY)
    save_nifti(folder / "b.nii", GREY.astype(np.float32))
    np.save(folder / "c.npy", GREY)
    (folder / "labels.csv").write_text("path,tumour,grade,split\na.nii.gz,0,2,train\nb.nii,1,,test\nc.npy,1,0,val\n")
    return folder

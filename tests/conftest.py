"""Fixtures that several test files use."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from ssl3d.data.sets.demo import write_demo

settings.register_profile("no deadline", deadline=None)  # machines that run other jobs, too, are slow at times
settings.load_profile("no deadline")


@pytest.fixture(autouse=True)
def same_draws_in_any_order() -> None:
    """Start each test from the same global draws, whichever tests ran before it in the same process."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real volumes that is not part of the project; the test is skipped where it is absent."""
    folder = Path(__file__).resolve().parents[1] / "../shared/data"
    if not folder.is_dir():
        pytest.skip("real volumes are absent: ../shared/data")
    return folder


@pytest.fixture
def mrnet_root(tmp_path: Path) -> Path:
    """A sound set of files in MRNet's layout: cases 0000 to 0002 in train, 0003 and 0004 in valid; 5 to 9 slices."""
    root = tmp_path / "MRNet-v1.0"
    write_demo(root, size=24, cases=(3, 2), slices=(5, 9))
    return root

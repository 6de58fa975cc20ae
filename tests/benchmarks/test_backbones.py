"""The published table of backbones is what its script counts."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from ssl3d.errors import PluginError

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PAGE = (BENCHMARKS / "results" / "backbones.md").read_text("utf-8").splitlines()
SCRIPT = runpy.run_path(str(BENCHMARKS / "backbones.py"))


def test_every_registered_backbone_has_a_row() -> None:
    names = [line.split("`")[1] for line in PAGE if line.startswith("| `")]
    assert names == SCRIPT["names"]()
    assert SCRIPT["INTRODUCTION"].splitlines() == PAGE[: PAGE.index("| " + " | ".join(SCRIPT["COLUMNS"]) + " |")]


@pytest.mark.parametrize("name", ["tiny", "vit3d_tiny", "s3d", "voxel_grid"])
def test_a_row_is_what_the_script_counts(name: str) -> None:
    assert SCRIPT["line"](SCRIPT["row"](name)) in PAGE


@pytest.mark.slow
def test_all_rows_are_what_the_script_counts() -> None:
    for name in SCRIPT["names"]():
        try:
            assert SCRIPT["line"](SCRIPT["row"](name)) in PAGE
        except PluginError as error:  # an extra that is not installed
            assert "an extra" in str(error)  # noqa: PT017

"""The scripts that measure memory, scaling and a slice of the paper's pretraining, at sizes that mean nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SPEED = Path(__file__).resolve().parents[2] / "benchmarks" / "speed"
SMALL = {
    "memory.py": "--method simclr --size 4 16 17 --micro 2 --batches 2 4 8 --single 4",
    "scaling.py": "--size 4 32 32 --volume-shape 4 20 20 --batches 2 4 --volumes 4 8 --batch 2 --micro 2 "
    "--steps 1 --rounds 1",
    "gpu.py": "--device cpu --volumes 6 --plane 20 --size 4 16 17 --backbone tiny --batch 4 --micro 2 --steps 2 "
    "--warmup 1 --precision 32-true --peak 0.1",
}


def output(script: str) -> str:
    command = [sys.executable, str(SPEED / script), *SMALL[script].split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def rows(text: str) -> list[list[str]]:
    """Cells of all tables."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


@pytest.mark.slow
def test_memory_of_an_exact_step_grows_less_than_that_of_a_single_pass() -> None:
    found = rows(output("memory.py"))
    measured, fits = ({row[0]: row for row in found if len(row) == columns} for columns in (6, 3))
    assert float(measured["2"][2]) == pytest.approx(1.0, abs=0.02)  # one micro-batch is the whole batch
    exact, single = (float(measured["4"][column]) - float(measured["2"][column]) for column in (3, 5))
    assert exact < single / 2
    assert int(fits["80"][2]) > int(fits["0.5"][2]) > 0


@pytest.mark.slow
def test_scaling_prints_a_line_with_its_constant_for_each_table() -> None:
    text = output("scaling.py")
    assert len(re.findall(r"largest deviation \d", text)) == 3
    assert all(float(row[1]) > 0 for row in rows(text) if row[1] != "s")


@pytest.mark.slow
def test_gpu_gives_time_operations_and_share_of_the_peak() -> None:
    found = dict(row for row in rows(output("gpu.py")) if len(row) == 2)
    operations = float(found["operations of the whole"].split()[0]) * 1e15
    forward = float(found["operations of one view, forward"].split()[0]) * 1e9
    # two views, through the student (forward, backward, half of them forward again) and the momentum encoder
    assert operations == pytest.approx(forward * 6 * 100 * 2 * (3 + 0.5 + 1), rel=1e-2)
    assert found["share of the peak"].endswith("%")
    floor = float(found["floor: operations / peak"].split()[0])
    assert floor * 60 * 1e11 == pytest.approx(operations, rel=1e-2)

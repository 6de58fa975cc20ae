"""The scripts that measure time and memory run, with their smallest options, to the end, and print their tables."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "speed"
SIZES = "--size 8 16 16 --volume-shape 9 20 24"
LOOP = f"{SIZES} --batch 2 --steps 1 --rounds 1"
SMALLEST = {
    "gpu": "--device cpu --backbone tiny --precision 32-true --volumes 4 --plane 24 --size 8 16 16 --batch 2 "
    "--warmup 1 --steps 1",
    "help": "--repeats 1",
    "evaluation": "--exams 40 --encoders 2 --volume 9 20 24 --size 8 16 16 --extract 2 --steps 1 --repeats 1",
    "memory": "--size 8 16 16 --micro 2 --batches 2 4",
    "peers": f"{LOOP} --workers 1",
    "scaling": "--size 8 32 32 --volume-shape 9 40 48 --batch 2 --micro 1 --batches 2 3 --volumes 4 6 --rounds 1 "
    "--steps 1",
    "throughput": f"{LOOP} --micro 1",
    "views": f"{SIZES} --repeats 1",
    "workers": "--workers 1 2 --each 2 --seconds 0.01",
    "window": "--size 8 16 16 --batch 4 --micro 2 --repeats 1",
}
ROW = re.compile(r"^\| .+ \|$")
FIRST_CELLS = {  # what the rows of some tables must be about
    "peers": ("ssl3d", "lightly, torchio, plain", "lightly, MONAI, cropped and resized first"),
    "throughput": ("2, the whole effective batch", "1, exact accumulation"),
    "views": ("ssl3d", "ssl3d, whole (nothing random)"),
    "window": ("bare passes", "plain", "exact, keep 1 of 2"),
}
without_peers = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torchio", "monai")),
    reason="compares with torchio and monai, which are no dependencies; `pip install torchio monai`",
)
QUICK = {"views"}  # each script is a process that loads torch
MARKS = {name: (pytest.mark.slow,) for name in SMALLEST if name not in QUICK} | {
    "peers": (pytest.mark.slow, without_peers)
}


def run(name: str, options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, on one thread."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), *options.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def test_every_script_is_run_here() -> None:
    scripts = {path.stem for path in FOLDER.glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    assert scripts == set(SMALLEST), "give the script its smallest options in SMALLEST"


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, ())) for name in SMALLEST])
def test_a_script_prints_its_table(name: str) -> None:
    done = run(name, SMALLEST[name])
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if ROW.match(line)]
    assert len(rows) >= 4, done.stdout  # a head, its rule, and what was measured
    assert len({row.count("|") for row in rows[:4]}) == 1, done.stdout
    first_cells = {row.split(" | ")[0].removeprefix("| ") for row in rows}
    assert set(FIRST_CELLS.get(name, ())) <= first_cells, done.stdout


@pytest.mark.slow
def test_without_its_peers_the_comparison_says_how_to_get_them_in_one_sentence(tmp_path: Path) -> None:
    for name in ("torchio", "monai"):  # in front of what may be installed
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('not here', name={name!r})\n")
    done = run("peers", SMALLEST["peers"], PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[-1] == (
        "torchio is not installed, and the comparison is with it: `pip install torchio monai` brings both."
    )
    assert "Traceback" not in done.stderr

"""Output that is read no further ends a command quietly; a run can go on from there, and no cell fails of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs import arguments, cell_folder, left_behind, small_run, write_knees

LINES = {"pretrain.epochs": 4}


def piped(*line: str) -> tuple[int, str]:
    """Run a command whose output is closed after its first line; return its exit code and what it says of errors."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ssl3d", *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    return process.wait(timeout=120), errors


@pytest.mark.slow
def test_a_run_that_is_read_no_further_stops_and_goes_on_to_the_same_result(tmp_path: Path) -> None:
    knees, methods = write_knees(tmp_path / "knees"), "byol,simclr"
    line = arguments(knees, tmp_path / "run", "--json", "--no-baselines", methods=methods, **LINES)
    code, errors = piped(*line)
    assert (code, errors.strip()) == (130, "Interrupted. The same command goes on from here.")
    assert not list((tmp_path / "run").glob("cells/*/error.txt"))
    statuses = [json.loads(path.read_text())["status"] for path in (tmp_path / "run").glob("cells/*/result.json")]
    assert "failed" not in statuses
    assert len(statuses) < 2
    subprocess.run([sys.executable, "-m", "ssl3d", *line, "--quiet"], check=True, capture_output=True)
    whole = small_run(knees, tmp_path / "whole", methods=("byol", "simclr"), baselines=False, pretrain__epochs=4).folder
    for method in ("byol", "simclr"):
        assert left_behind(cell_folder(tmp_path / "run", method)) == left_behind(cell_folder(whole, method))


@pytest.mark.slow
def test_a_table_that_is_read_no_further_is_no_error(tmp_path: Path) -> None:
    folder = small_run(write_knees(tmp_path / "knees"), tmp_path / "run").folder
    reader, writer = os.pipe()
    os.close(reader)  # nobody reads at all
    with os.fdopen(writer, "w") as closed:
        line = [sys.executable, "-m", "ssl3d", "leaderboard", str(folder)]
        done = subprocess.run(line, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")

"""Output that nobody reads any more ends a command quietly; a run can go on from there, and no artifact fails of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.records import evaluated, results, write_run
from tests.runs import arguments, finish, left_behind, start, write_knees

MORE = {"pretrain.epochs": 4}


def piped(*line: str) -> tuple[int, str]:
    """Run a command whose output is closed after its first line; return its exit code and what it says of errors."""
    process = start("ssl3d", *line)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    return process.wait(timeout=120), errors


@pytest.mark.slow
def test_a_run_that_nobody_reads_any_more_stops_and_goes_on_to_the_same_result(tmp_path: Path) -> None:
    knees, run, whole = write_knees(tmp_path / "knees"), tmp_path / "run", tmp_path / "whole"
    line = arguments(knees, run, "--json", "--controls=none", methods="byol,simclr", **MORE)
    code, errors = piped(*line)
    assert (code, errors.strip()) == (130, "Interrupted. The same command goes on from here.")
    assert not list(run.rglob("error.txt")) + list(run.rglob("failure.json"))
    assert len(list(run.glob("evaluations/*/*/evaluation.json"))) < 4
    unbroken = arguments(knees, whole, "--controls=none", methods="byol,simclr", **MORE)
    for words in (line, unbroken):
        code, _, errors = finish(start("ssl3d", *words))
        assert code == 0, errors
    assert len(list(run.glob("evaluations/*/*/evaluation.json"))) == 4
    assert left_behind(run) == left_behind(whole)


def test_a_table_that_nobody_reads_is_not_an_error(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", results(evaluated("byol"), evaluated("simclr", noise=1)))
    reader, writer = os.pipe()
    os.close(reader)  # nobody reads at all
    with os.fdopen(writer, "w") as closed:
        line = [sys.executable, "-m", "ssl3d", "leaderboard", str(folder)]
        done = subprocess.run(line, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")

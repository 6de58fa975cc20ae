"""Progress as lines and as JSON."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from ssl3d.cli.progress import JsonProgress, LineProgress, words
from ssl3d.progress import BEFORE


def test_figures_are_words() -> None:
    assert (
        words({"epoch": 3, "epochs": 30, "loss": 1.23456, "volumes/s": 210.0})
        == "epoch 3/30, loss 1.235, volumes/s 210"
    )
    assert words({"of": 3}) == ""


def test_json_has_no_nan_nor_infinity() -> None:
    out = io.StringIO()
    JsonProgress(out).advance(3, {"loss": float("nan"), "auc": float("inf"), "x": 1.0})
    assert json.loads(out.getvalue(), parse_constant=pytest.fail) == {
        "event": "progress", "done": 3, "loss": None, "auc": None, "x": 1.0,
    }  # fmt: skip


def test_lines_come_now_and_then_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 10.0, 11.0])
    monkeypatch.setattr("ssl3d.cli.progress.time.monotonic", lambda: next(clock))
    out = io.StringIO()
    lines = LineProgress(out)
    lines.phase("byol on tiny", "pretraining", 40, "steps", 10)
    for done in (11, 20, 21):
        lines.advance(done, {"loss": 0.5})
    assert out.getvalue() == "  byol on tiny: pretraining 20/40, loss 0.5, 20 s left\n"


def test_a_reader_that_stops_reading_is_no_traceback() -> None:
    line = f"{sys.executable} -m ssl3d list | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["/bin/bash", "-c", line], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_lines_say_how_each_artifact_came_out_but_for_those_that_were_there_before() -> None:
    out = io.StringIO()
    lines = LineProgress(out)
    lines.run_started("runs/x", ["a", "b"])
    lines.finished("a", BEFORE)
    lines.finished("b", "auc 0.700")
    assert out.getvalue() == "2 artifacts, written to runs/x\n  b: auc 0.700\n"

"""Progress as lines and as JSON."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from ssl3d.cli import show_run
from ssl3d.cli.progress import BarProgress, JsonProgress, LineProgress, words
from ssl3d.experiment import read_experiment
from ssl3d.progress import BEFORE, Progress
from ssl3d.run.options import Options
from ssl3d.run.planning.plan import make_plan


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


HOSTILE = "[red]\x1b[2Jbyol[/red]\u202e"


def told(progress: Progress) -> None:
    """Everything that a run may say of an artifact with a hostile name."""
    progress.run_started(HOSTILE, [HOSTILE])
    progress.started(HOSTILE)
    progress.phase(HOSTILE, HOSTILE, 3, HOSTILE)
    progress.advance(1, {HOSTILE: 0.5})
    progress.advance(1, {HOSTILE: 0.5, "epoch step": 1, "epoch steps": 3, "epoch": 1, "epochs": 2})
    progress.note(HOSTILE)
    progress.finished(HOSTILE, HOSTILE)


def test_text_of_others_is_shown_as_it_is_and_steers_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl3d.cli.progress.LINE_SECONDS", -1.0)
    lines, events, bars = io.StringIO(), io.StringIO(), io.StringIO()
    told(LineProgress(lines))
    told(JsonProgress(events))
    with BarProgress(Console(file=bars, force_terminal=True, color_system=None, width=400)) as progress:
        told(progress)
    assert all(line.isprintable() for out in (lines, events) for line in out.getvalue().splitlines())
    for out in (lines, bars):
        assert out.getvalue().count(r"[red]\x1b[2Jbyol[/red]\u202e") >= 5
    assert json.loads(events.getvalue().splitlines()[0])["folder"] == HOSTILE
    assert "\x1b[2J" not in bars.getvalue()
    assert "\u202e" not in bars.getvalue()


def test_a_dry_run_shows_text_of_others_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"encoder": HOSTILE, "evaluations": 1, "steps": 0, "tflop": 0.0, "minutes": 0.0, "note": HOSTILE}
    monkeypatch.setattr(show_run, "estimates", lambda *_: [row])
    monkeypatch.setattr(show_run, "check_inputs", lambda *_, **__: None)
    plan = make_plan(read_experiment(None, {"data.name": "demo"}))
    show_run._show_estimate(plan, Options(out=Path("runs") / HOSTILE), as_json=False)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "".join(out.split()).count(r"[red]\x1b[2Jbyol[/red]\u202e") == 3

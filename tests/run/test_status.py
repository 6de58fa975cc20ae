"""The state of a run, as `ssl3d status` shows it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ssl3d.cli import run as command
from ssl3d.cli.status import lines
from ssl3d.results.folder import RunFolder
from ssl3d.results.lease import WORKER, Leases
from ssl3d.results.model import FailureRecord, PlanRecord
from ssl3d.results.read import read_plan
from ssl3d.results.records import write_model
from ssl3d.run.lease_progress import LeaseProgress
from ssl3d.run.options import Options
from ssl3d.run.status import read_status
from ssl3d.run.work import WorkOptions, work
from tests.runs import Listener, small_run, write_knees


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees")


@pytest.fixture(scope="module")
def planned(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    return small_run(knees, out, ("random",), seeds=[0, 1], controls="none", jobs=0).folder


def test_a_run_is_waiting_running_failed_and_done(planned: Path) -> None:
    assert list(lines(read_status(planned)))[1:] == [
        "6 to make; workers: 0",
        "spent: 0 s, and 6 artifacts of unknown cost",
    ]
    first, second = read_plan(planned).encoders.values()
    leases = Leases(planned / "leases", beat_seconds=0.01)
    with leases.hold(first.key) as lease, leases.hold(f"{WORKER}-1"):
        assert lease is not None
        progress = LeaseProgress(Listener(), lease, "random on tiny, seed 0")
        progress.phase("random on tiny, seed 0", "pretraining", 30, "steps", 10)
        progress.advance(20, {})
        lease._write()
        failure = FailureRecord(kind="encoder", key=second.key, name=second.name, reason="no luck", finished_at="now")
        write_model(planned / "encoders" / second.name / "failure.json", failure)
        found = read_status(planned)
        (running,) = found.running
        assert (running.label, running.alive, running.doing["done"]) == ("random on tiny, seed 0", True, 20)
        assert running.doing["left"] >= 0
        text = "\n".join(lines(found))
        assert "running: random on tiny, seed 0, pretraining, 20 of 30 steps, 0 s left (" in text
        assert "5 to make, 1 failed and 0 depend on them; workers: 1" in text
        assert "failed: random on tiny, seed 1: no luck" in text
    work(planned, Options(device="cpu"), WorkOptions(tables=False))
    found = read_status(planned)
    assert (found.waiting, found.dependants, found.done) == (0, 2, {"encoders": 1, "evaluations": 2})
    assert (found.running, found.workers) == ([], 0)
    assert found.spent > 0


def test_a_worker_that_was_killed_is_shown_as_ended(planned: Path, tmp_path: Path) -> None:
    code = f"import os; from ssl3d.results.lease import *; Leases(Path({str(tmp_path)!r})).acquire('ab'); os._exit(9)"
    subprocess.run([sys.executable, "-c", f"from pathlib import Path; {code}"], check=False)
    write_model(tmp_path / "plan.json", PlanRecord(base={}))
    (tmp_path / "leases").mkdir()
    (tmp_path / "ab.lease").rename(tmp_path / "leases/ab.lease")
    (running,) = read_status(tmp_path).running
    assert running.alive is False
    assert "it has ended; the next worker resumes it" in "\n".join(lines(read_status(tmp_path)))


def test_the_state_as_json_has_every_number(planned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["status", str(planned), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["planned"] == {"encoders": 2, "evaluations": 4}
    assert {"done", "running", "failed", "waiting", "workers", "spent", "to_come"} < found.keys()


def test_status_loads_no_torch(planned: Path) -> None:
    code = f"import sys; from ssl3d.cli import run; run(['status', {str(planned)!r}]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_what_other_runs_make_in_a_shared_cache_is_not_shown(planned: Path, tmp_path: Path) -> None:
    run, cache = tmp_path / "run", tmp_path / "cache"
    write_model(run / "plan.json", read_plan(planned).model_copy(update={"cache": str(cache)}))
    first = next(iter(read_plan(planned).encoders))
    leases = Leases(RunFolder(run, cache).shared_leases)
    with leases.hold(first), leases.hold("another"), leases.hold("features of this run") as lease:
        assert lease is not None
        LeaseProgress(Listener(), lease, "random on tiny, seed 0: features of mrnet sagittal")
        shown = {one.label for one in read_status(run).running}
    assert len(shown) == 2
    assert "another" not in shown

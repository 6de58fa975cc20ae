"""Several workers on one run: they share the work, wait for each other, and take over from a dead one."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path

import pandas as pd
import pytest

from ssl3d.results.lease import Leases
from ssl3d.results.model import FailureRecord
from ssl3d.results.read import read_plan, read_results
from ssl3d.results.records import write_model
from ssl3d.run import worker as worker_module
from tests.runs import Listener, arguments, encoder_folder, finish, left_behind, small_run, start, write_knees

METHODS = ("byol", "moco", "simclr")
LONG = {"pretrain.epochs": 8}


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees")


@pytest.fixture(scope="module")
def finished(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one worker, with as many threads as the others: their number decides rounding."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    code, _, err = finish(start(*line(knees, out)))
    assert code == 0, err
    return out


def line(knees: Path, out: Path) -> tuple[str, ...]:
    return ("ssl3d", *arguments(knees, out, "--json", methods=",".join(METHODS), **LONG))


def made(printed: str) -> list[str]:
    """Labels of what a process made, from its JSON lines."""
    events = [json.loads(text) for text in printed.splitlines()]
    return [event["artifact"] for event in events if event["event"] == "finished" and event["outcome"] != "done before"]


def assert_complete(run: Path, finished: Path) -> None:
    """The run holds the same artifacts as one worker's, and tables of all of them."""
    assert left_behind(run) == left_behind(finished)
    results = read_results(run)
    assert (len(results.evaluated), results.failed, results.pending) == (6 * 2, (), ())
    boards = [pd.read_csv(folder / "leaderboard.csv") for folder in (run, finished)]
    assert (boards[0]["auc"] == boards[1]["auc"]).all()
    assert not list(run.glob("leases/*"))


def test_two_processes_share_a_run_and_both_end_with_complete_tables(
    knees: Path, finished: Path, tmp_path: Path
) -> None:
    processes = [start(*line(knees, tmp_path / "run")) for _ in range(2)]
    printed = []
    for process in processes:
        code, out, err = finish(process)
        assert code == 0, err
        rows = json.loads(out.splitlines()[-1])["rows"]
        assert len(rows) == 6 * 2
        printed += made(out)
    assert sorted(printed) == sorted(set(printed)), "nothing is made twice"
    assert len(printed) == 6 * 4
    assert_complete(tmp_path / "run", finished)


@pytest.mark.slow
def test_a_worker_takes_over_from_one_that_was_killed(knees: Path, finished: Path, tmp_path: Path) -> None:
    first = start(*line(knees, tmp_path / "run"))
    assert first.stdout is not None
    for text in first.stdout:
        event = json.loads(text)
        if event["event"] == "progress" and event.get("epoch", 0) >= 2:
            break
    second = start(*line(knees, tmp_path / "run"))
    assert second.stdout is not None
    for text in second.stdout:  # it finds the first one's lease, and makes other encoders meanwhile
        if json.loads(text)["event"] == "started":
            break
    first.send_signal(signal.SIGKILL)
    finish(first)
    code, _, err = finish(second)
    assert code == 0, err
    assert_complete(tmp_path / "run", finished)


def test_a_worker_waits_for_what_another_one_makes_and_says_so(
    knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "POLL_SECONDS", 0.05)
    small_run(knees, tmp_path / "run", ("random",), controls="none")
    (key,) = read_plan(tmp_path / "run").encoders
    (encoder_folder(tmp_path / "run", "random") / "encoder.json").unlink()
    lease = Leases(tmp_path / "run" / "leases").acquire(key)
    assert lease is not None
    release = lease.release

    class Releases(Listener):
        def note(self, text: str) -> None:
            super().note(text)
            if "another process makes it" in text:
                threading.Timer(0.3, release).start()

    listener = Releases()
    assert small_run(knees, tmp_path / "run", ("random",), progress=listener, controls="none").failures == {}
    assert [note for note in listener.notes if "another process makes it" in note] == [
        "random on tiny, seed 0: another process makes it; waiting for that where needed"
    ]
    assert listener.made == ["random on tiny, seed 0"]


def test_what_failed_elsewhere_meanwhile_is_not_tried_again_here(
    knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_run(knees, tmp_path / "run", ("random",), seeds=(0, 1), controls="none")
    encoders = {planned.recipe.seed: planned for planned in read_plan(tmp_path / "run").encoders.values()}
    for seed in (0, 1):
        (encoder_folder(tmp_path / "run", "random", seed) / "encoder.json").unlink()
    failure = FailureRecord(
        kind="encoder", key=encoders[1].key, name=encoders[1].name, reason="no luck there", finished_at="now"
    )

    class Elsewhere(Listener):
        def started(self, artifact: str) -> None:
            super().started(artifact)
            write_model(encoder_folder(tmp_path / "run", "random", 1) / "failure.json", failure)

    outcome = small_run(knees, tmp_path / "run", ("random",), seeds=(0, 1), controls="none", progress=Elsewhere())
    assert outcome.failures == {"random on tiny, seed 1": "no luck there"}
    assert small_run(knees, tmp_path / "run", ("random",), seeds=(0, 1), controls="none").failures == {}


def test_a_worker_that_lost_its_lease_writes_nothing(
    knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a suspension, while which another worker took over."""
    monkeypatch.setattr(worker_module, "POLL_SECONDS", 0.05)
    out = tmp_path / "run"

    class TakesOver(Listener):
        times = 0

        def phase(self, artifact: str, what: str, total: int, unit: str, done: int = 0) -> None:
            super().phase(artifact, what, total, unit, done)
            if what == "encoding" and not self.times:
                self.times += 1
                (path,) = [path for path in out.glob("leases/*.lease") if not path.name.startswith("worker")]
                path.unlink()
                path.write_text("{}")
                threading.Timer(0.3, path.unlink).start()

    listener = TakesOver()
    assert small_run(knees, out, ("random",), progress=listener, controls="none").failures == {}
    assert any("taken over" in note for note in listener.notes)
    assert len([phase for phase in listener.phases if phase.endswith("encoding")]) == 2

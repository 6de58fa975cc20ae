"""Workers on this machine: started, listened to, stopped. Small scripts stand in for workers."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping

import pytest

from ssl3d.cli.progress import JsonProgress, LineProgress
from ssl3d.errors import RecipeError, RunError
from ssl3d.progress import BEFORE
from ssl3d.run.launch.events import Merged
from ssl3d.run.launch.jobs import Jobs, check_jobs, devices_of
from ssl3d.run.options import Options
from tests.runs import Listener

SAY = "import json\ndef say(event, **values): print(json.dumps({'event': event, **values}), flush=True)\n"
WORKED = "say('worked', failures={})\n"


def jobs(*scripts: str, listener: Listener | None = None) -> Jobs:
    return Jobs([[sys.executable, "-c", SAY + script] for script in scripts], {}, listener or Listener())


def test_an_artifact_is_reported_once_as_its_maker_reports_it() -> None:
    found = "say('finished', artifact='a', outcome='done before')\n"
    made = "say('started', artifact='a'); say('finished', artifact='a', outcome='auc 0.8')\n"
    failed = "say('worked', failures={'b': 'no luck'})\n"
    listener = Listener()
    assert jobs(found + failed, made + found + failed, listener=listener).work() == {"b": "no luck"}
    assert listener.started_list == ["a"]
    assert listener.outcomes == {"a": "auc 0.8"}


def test_a_worker_that_is_killed_is_announced_and_the_others_go_on() -> None:
    listener = Listener()
    assert jobs("import os; os.kill(os.getpid(), 9)", WORKED, listener=listener).work() == {}
    assert listener.notes == ["worker 1 was ended (Killed, out of memory perhaps); the others take over what it held"]


def test_workers_that_can_do_nothing_stop_the_run_with_their_reason() -> None:
    broken = "import sys; sys.exit('Error: the device does not exist')"
    with pytest.raises(RunError, match=r"no worker was able to do its work: worker 1 ended early: the device does not"):
        jobs(broken, broken).work()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_every_worker(number: signal.Signals) -> None:
    waits = "import signal, sys\nsignal.signal(15, lambda *_: (say('note', text='stopped'), sys.exit(130)))\n"
    waits += "say('started', artifact='x')\nsignal.pause()\n"

    class Stops(Listener):
        def started(self, artifact: str) -> None:
            super().started(artifact)
            if len(self.started_list) == 2:
                threading.Timer(0.05, os.kill, (os.getpid(), number)).start()

    listener = Stops()
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        jobs(waits, waits, listener=listener).work()
    assert listener.notes == ["stopped"]
    assert signal.getsignal(number) == before


def test_what_a_worker_writes_as_json_is_what_the_display_is_given() -> None:
    out, heard = io.StringIO(), []

    class Hears(Listener):
        def phase(self, artifact: str, what: str, total: int, unit: str, done: int = 0) -> None:
            heard.append((artifact, what, total, unit, done))

        def advance(self, done: int, figures: Mapping[str, float]) -> None:
            heard.append((done, str(dict(figures))))

    worker = JsonProgress(out)
    worker.phase("a", "pretraining", 7, "steps", 2)
    worker.advance(3, {"loss": float("inf"), "epoch": 1.0})
    worker.note("hello")
    merged = Merged(Hears())
    for line in [*out.getvalue().splitlines(), "no event"]:
        merged.line(1, line)
    assert heard == [("a", "pretraining", 7, "steps", 2), (3, "{'loss': nan, 'epoch': 1.0}")]
    assert isinstance(merged.progress, Listener)
    assert merged.progress.notes == ["hello", "no event"]


def test_lines_and_objects_say_which_worker_they_are_of() -> None:
    out = io.StringIO()
    LineProgress(out).worker(2).finished("a", "auc 0.8")
    LineProgress(out).worker(3).finished("a", BEFORE)
    JsonProgress(out).worker(3).note("hello")
    assert out.getvalue().splitlines() == [
        "  [2] a: auc 0.8",
        json.dumps({"event": "note", "worker": 3, "text": "hello"}),
    ]


def test_workers_take_gpus_in_turn() -> None:
    assert devices_of(Options(jobs=3, device="auto"), 2) == ["cuda:0", "cuda:1", "cuda:0"]
    assert devices_of(Options(jobs=2, device="cuda:1"), 4) == ["cuda:1", "cuda:1"]
    assert devices_of(Options(jobs=2, device="auto"), 0) == ["cpu", "cpu"]


def test_jobs_that_cannot_be_started_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for options, words in ((Options(jobs=-1), "0 to 512 workers"), (Options(jobs=2, devices=2), "cannot be combined")):
        with pytest.raises(RecipeError, match=words):
            check_jobs(options)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="torchrun or srun"):
        check_jobs(Options(jobs=2))

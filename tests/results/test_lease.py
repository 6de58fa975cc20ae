"""Leases: one owner at a time, taken over from the dead, never from the living."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ssl3d.errors import RunError
from ssl3d.results.lease import Leases, LostError

KEY = "ab12"
HOLD = """
import sys, time
from pathlib import Path
from ssl3d.results.lease import Leases
lease = Leases(Path(sys.argv[1]), beat_seconds=0.05).acquire("ab12")
print("held" if lease else "refused", flush=True)
time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the lease."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def foreign(folder: Path) -> Path:
    """The lease of a worker on another machine."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{KEY}.lease"
    path.write_text(json.dumps({"count": 1, "host": "elsewhere", "pid": 1, "started": "1", "token": "t"}))
    return path


def test_one_worker_holds_a_lease_and_gives_it_back(tmp_path: Path) -> None:
    first, second = Leases(tmp_path), Leases(tmp_path)
    lease = first.acquire(KEY)
    assert lease is not None
    assert lease.held
    assert second.acquire(KEY) is None
    assert second.acquire("other") is not None
    lease.release()
    lease.release()  # twice does no harm
    with second.hold(KEY) as other:
        assert other is not None
        assert first.acquire(KEY) is None
    assert not (tmp_path / f"{KEY}.lease").exists()


def test_a_lease_of_a_living_process_is_never_taken_even_while_it_is_suspended(tmp_path: Path) -> None:
    leases = Leases(tmp_path, expires=0.1)
    with holder(tmp_path) as process:
        os.kill(process.pid, signal.SIGSTOP)
        taken = []
        for _ in range(4):
            taken.append(leases.acquire(KEY))
            time.sleep(0.1)
        process.kill()
    assert taken == [None] * 4
    lease = leases.acquire(KEY)  # dead: at once
    assert lease is not None
    lease.release()


def test_an_owner_on_another_machine_is_dead_when_its_count_stands_still(tmp_path: Path) -> None:
    path, leases = foreign(tmp_path), Leases(tmp_path, expires=0.2)
    assert leases.acquire(KEY) is None  # first seen now, however old the file is
    os.utime(path, (0, 0))
    assert leases.acquire(KEY) is None
    time.sleep(0.25)
    path.write_text(path.read_text().replace('"count": 1', '"count": 2'))  # it lives
    assert leases.acquire(KEY) is None
    time.sleep(0.25)
    lease = leases.acquire(KEY)
    assert lease is not None
    lease.release()


def test_an_owner_elsewhere_is_known_to_live_once_it_counts_and_one_here_at_once(tmp_path: Path) -> None:
    path, leases = foreign(tmp_path), Leases(tmp_path, expires=60)
    for _ in range(3):
        assert leases.acquire(KEY) is None
        assert not leases.owner_lives(KEY)
    path.write_text(path.read_text().replace('"count": 1', '"count": 2'))
    assert leases.acquire(KEY) is None
    assert leases.owner_lives(KEY)
    with Leases(tmp_path).hold("here"):
        assert leases.acquire("here") is None
        assert leases.owner_lives("here")
    assert not leases.owner_lives("never seen")


def test_an_owner_finds_out_that_its_lease_was_taken_over(tmp_path: Path) -> None:
    lease = Leases(tmp_path, beat_seconds=0.02).acquire(KEY)
    assert lease is not None
    (tmp_path / f"{KEY}.lease").unlink()
    other = Leases(tmp_path).acquire(KEY)
    assert other is not None
    assert not lease.held
    with pytest.raises(LostError, match="taken over"):
        lease.require()
    time.sleep(0.1)
    lease.release()  # leaves the other's alone
    assert other.held
    other.release()


def test_a_lease_that_is_still_being_written_is_not_taken(tmp_path: Path) -> None:
    tmp_path.joinpath(f"{KEY}.lease").write_bytes(b"")
    assert Leases(tmp_path, expires=10).acquire(KEY) is None


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        Leases(tmp_path / "file").acquire(KEY)


def _compete(folder: Path, rounds: int, index: int, made: Path) -> None:
    leases = Leases(folder, beat_seconds=1)
    for number in range(rounds):
        with leases.hold(f"{number:04x}") as lease:
            if lease is not None and not (made / str(number)).exists():
                with (made / "log").open("a") as log:
                    log.write(f"{number}\n")
                (made / str(number)).write_text(str(index))


def test_workers_that_compete_make_everything_once(tmp_path: Path) -> None:
    (made := tmp_path / "made").mkdir()
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_compete, args=(tmp_path / "leases", 40, index, made)) for index in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert sorted(map(int, (made / "log").read_text().split())) == list(range(40))

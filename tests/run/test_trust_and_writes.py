"""Records from others are data; writes stay inside the run; what is lost or full is said in one sentence."""

from __future__ import annotations

import errno
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from pydantic import ValidationError

import ssl3d
from ssl3d.data.store import Store
from ssl3d.engine import Engine
from ssl3d.errors import DataError, RunError
from ssl3d.files import GoneError, make_folder, watched, write_atomic
from ssl3d.results.lease import Leases
from ssl3d.results.model import PlannedEncoder
from ssl3d.results.read import read_plan
from ssl3d.run.pretraining import _threaded, _threads
from ssl3d.train import checkpoint
from tests.runs import Listener, encoder_folder, small_run, write_knees

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees")


@pytest.fixture(scope="module")
def finished(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the untrained encoder; copy it before changing it."""
    return small_run(knees, tmp_path_factory.mktemp("runs") / "run", ("random",), controls="none").folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


# Trust


@pytest.mark.parametrize("name", ["../encoder", "/etc", "a/../../b", "a//b", "", "."])
def test_a_planned_name_stays_inside_the_run(finished: Path, name: str) -> None:
    (planned,) = read_plan(finished).encoders.values()
    with pytest.raises(ValidationError, match="leads out of the run's folder"):
        PlannedEncoder.model_validate({**planned.model_dump(mode="json"), "name": name})


def test_an_encoder_with_a_flipped_bit_is_refused(run: Path) -> None:
    path = encoder_folder(run, "random") / "encoder.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match="its hash differs"):
        ssl3d.load_encoder(path.parent)


# Links


@pytest.mark.parametrize("name", ["encoders", "features", "evaluations", "stores", "leases"])
@pytest.mark.parametrize("fresh", [False, True])
def test_nothing_is_written_or_deleted_behind_a_link(
    knees: Path, run: Path, tmp_path: Path, name: str, fresh: bool
) -> None:
    outside = tmp_path / "outside"
    (run / name).rename(outside)
    (run / name).symlink_to(outside)
    before = sorted(outside.rglob("*"))
    with pytest.raises(RunError, match=rf"{name} is a symbolic link, which is not followed"):
        small_run(knees, run, ("random",), controls="none", fresh=fresh, seeds=(0, 1))
    assert sorted(outside.rglob("*")) == before


def test_fresh_follows_no_link_among_the_artifacts(knees: Path, run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "home"
    outside.mkdir()
    (outside / "README.md").write_text("mine")
    (outside / "x").mkdir()
    (outside / "x" / "error.txt").write_text("mine")
    (run / "encoders" / "linked").symlink_to(outside)
    (run / "evaluations" / "linked").symlink_to(outside)
    small_run(knees, run, ("random",), controls="none", fresh=True)
    assert (outside / "README.md").read_text() == (outside / "x" / "error.txt").read_text() == "mine"


# Folders that go away, disks that are full


@pytest.mark.parametrize("leave", [shutil.rmtree, lambda run: run.rename(run.with_name("other"))])
def test_a_run_that_is_deleted_or_renamed_ends_in_a_sentence_and_does_not_come_back(
    knees: Path, tmp_path: Path, leave: Callable[[Path], object]
) -> None:
    out = tmp_path / "run"

    class Leaves(Listener):
        def phase(self, artifact: str, what: str, total: int, unit: str, done: int = 0) -> None:
            if what == "encoding":
                leave(out)

    with pytest.raises(GoneError, match="run was deleted or renamed while this process worked in it"):
        small_run(knees, out, ("random",), controls="none", progress=Leaves())
    assert not out.exists()


def test_every_way_to_write_refuses_a_folder_that_is_gone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with watched(run):
        write_atomic(run / "a" / "file", "x")
        shutil.rmtree(run)
        attempts: list[Callable[[], object]] = [
            lambda: write_atomic(run / "a" / "file", "x"),
            lambda: make_folder(run / "b"),
            lambda: Leases(run / "leases").acquire("key"),
        ]
        for attempt in attempts:
            with pytest.raises(GoneError):
                attempt()
        run.mkdir()  # another folder took its place
        with pytest.raises(GoneError):
            write_atomic(run / "file", "x")
    assert list(run.iterdir()) == []
    write_atomic(run / "file", "x")


class _Full:
    """A file on a full disk."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def flush(self) -> None: ...


def test_a_full_disk_under_a_checkpoint_is_named_and_the_last_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, {"key": "old"})
    write = checkpoint._write
    monkeypatch.setattr(checkpoint, "_write", lambda state, file: write(state, _Full(file)))  # type: ignore[arg-type]
    with pytest.raises(RunError, match=r"checkpoint\.pt cannot be written: the disk is full"):
        checkpoint.save(tmp_path, {"key": "new", "x": torch.zeros(1000)})
    assert checkpoint.load(tmp_path, CPU) == {"key": "old"}


@pytest.mark.parametrize(
    ("limits", "said"), [("size=64k", "the disk is full"), ("size=1m,nr_inodes=4", "no free inodes")]
)
def test_a_small_file_system_that_is_full_is_named(tmp_path: Path, limits: str, said: str) -> None:
    line = ["mount", "-t", "tmpfs", "-o", limits, "tmpfs", str(tmp_path)]
    mounted = subprocess.run(line, check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with pytest.raises(RunError, match=said):  # noqa: PT012  # whichever write does not fit any more
            for number in range(10):
                write_atomic(tmp_path / f"file{number}", b"x" * 20_000)
        assert (tmp_path / "file0").stat().st_size == 20_000
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_store_that_is_cut_short_while_it_is_in_use_ends_in_a_sentence(run: Path) -> None:
    (folder,) = (run / "stores").iterdir()
    store = Store.open(folder)
    view = store.with_splits(["train"] * len(store))
    os.truncate(folder / "volumes.bin", 0)
    for use in (
        lambda: store.volumes([len(store) - 1]),
        lambda: view.volumes([0]),
        store.verify,
        lambda: store.resident(CPU),
    ):
        with pytest.raises(DataError, match="was cut short while it was in use"):
            use()


def test_a_store_that_another_one_replaced_is_still_read(run: Path) -> None:
    (folder,) = (run / "stores").iterdir()
    store = Store.open(folder)
    (folder / "volumes.bin").unlink()
    (folder / "volumes.bin").write_bytes(b"another")
    assert len(store.volumes([0])) == 1


# Signals and threads


HANGS_UP = """
import signal, sys, time
from ssl3d.train.interrupt import Interrupted, deferred
try:
    with deferred() as stop:
        print("ready", flush=True)
        while not stop.requested:
            time.sleep(0.01)
        print("a line to a terminal that is gone", flush=True)
        raise Interrupted
except KeyboardInterrupt:
    open(sys.argv[1], "w").write("stopped")
"""


def test_a_closed_terminal_is_a_request_to_stop(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", HANGS_UP, str(tmp_path / "said")])  # noqa: S606
    assert b"ready" in os.read(terminal, 100)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (tmp_path / "said").read_text() == "stopped"


def test_a_hang_up_that_is_ignored_stays_ignored() -> None:
    from ssl3d.train.interrupt import deferred

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with deferred() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.requested
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_resume_keeps_the_number_of_threads_and_says_so() -> None:
    now, listener = torch.get_num_threads(), Listener()
    fresh: Any = _threaded(Engine(micro_batch=2), CPU, "byol", listener)
    assert (fresh.threads, listener.notes) == (now, [])
    begun = _threaded(Engine(micro_batch=2, threads=now + 1), CPU, "byol", listener)
    assert begun.threads == now + 1
    assert listener.notes == [f"byol: goes on with {now + 1} threads, as it was begun, and not with {now}"]
    with _threads(begun.threads):
        assert torch.get_num_threads() == now + 1
    assert torch.get_num_threads() == now
    assert _threaded(begun, torch.device("cuda"), "byol", listener).threads is None

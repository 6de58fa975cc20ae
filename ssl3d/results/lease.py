"""Leases: any number of workers share a run, and no two of them make the same artifact. Loads no torch.

A lease is a file that its owner creates exclusively (O_EXCL, which also works on network file systems; file locks are
not relied on) and in which it increments a counter while it is alive. A dead owner on the same machine is recognised
immediately by its process. An owner on another machine is considered dead if its counter has not changed for a time on
the observer's clock: clocks of two machines are never compared. An owner notices that its lease was taken over by
checking ``held``, which it does before it writes a record.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ssl3d.errors import RunError
from ssl3d.files import make_folder, require_there, unwritable

LOCK = "plan"  # name of the lease on plan.json
WORKER = "worker"  # and a number: of each process that works on a run
BEAT_SECONDS = 5.0
SIZE = 1024  # bytes of a lease's file, so that a count replaces the one before it
EXPIRES = 120.0  # many beats: a network file system may show them with a delay


class LostError(RunError):
    """The lease was taken over while its owner was suspended: another worker makes the artifact."""


class _Seen(NamedTuple):
    """Another worker's lease: its content, since when it is unchanged, and whether its owner is known to be alive."""

    content: bytes
    since: float
    alive: bool


@dataclass
class Leases:
    """The leases in one folder, as one worker sees them.

    Attributes:
        folder: made if missing.
        beat_seconds: time between two increments by an owner.
        expires: seconds without an increment after which an owner on another machine is considered dead.
    """

    folder: Path
    beat_seconds: float = BEAT_SECONDS
    expires: float = EXPIRES
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def acquire(self, key: str) -> Lease | None:
        """Return the lease on an artifact; None if another live worker holds it.

        Raises:
            RunError: the folder cannot be written, is a symbolic link, or (GoneError) was deleted with its run.
        """
        path = self.folder / f"{key}.lease"
        try:
            if self.folder.is_symlink():
                raise RunError(f"{self.folder} is a symbolic link, which is not followed; replace it by a folder")
            make_folder(self.folder)
            lease = _create(path, self.beat_seconds)
            if lease is None and self._expired(path):
                lease = _create(path, self.beat_seconds)
        except OSError as error:
            raise unwritable(path, error) from error
        if lease is not None:
            self._seen.pop(key, None)
        return lease

    def owner_lives(self, key: str) -> bool:
        """Return whether the owner of a refused lease is known to be alive: a local process, or seen counting.

        The owner of any other lease may be dead, which takes ``expires`` seconds to find out.
        """
        return key in self._seen and self._seen[key].alive

    @contextmanager
    def hold(self, key: str) -> Iterator[Lease | None]:
        """Hold the lease on an artifact inside; None if another worker holds it."""
        lease = self.acquire(key)
        try:
            yield lease
        finally:
            if lease is not None:
                lease.release()

    def _expired(self, path: Path) -> bool:
        """Return whether the owner of a lease is dead; its file is then moved out of the way."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return True
        if not self._is_dead(path.stem, content):
            return False
        return _set_aside(path, content)

    def _is_dead(self, key: str, content: bytes) -> bool:
        owner, seen, now = parsed(content), self._seen.get(key), time.monotonic()
        if owner.get("host") == _host():
            alive = _process_lives(owner)
            self._seen[key] = _Seen(content, now, alive)
            return not alive
        if seen is None or seen.content != content:
            self._seen[key] = _Seen(content, now, alive=seen is not None)
            return False
        return now - seen.since > self.expires


class Lease:
    """A lease held by this process, with a thread that counts in it. Made by :meth:`Leases.acquire`."""

    def __init__(self, path: Path, handle: int, beat_seconds: float) -> None:
        self._path, self._handle = path, handle
        self._ended = threading.Event()
        self._count = 0
        self._token = uuid.uuid4().hex
        self._doing: dict[str, Any] = {}
        self._write()  # other processes here see it at once; other machines see it with the first count
        self._thread = threading.Thread(target=self._beat, args=(beat_seconds,), name="lease", daemon=True)
        self._thread.start()

    @property
    def held(self) -> bool:
        """Whether this process still owns the lease."""
        try:
            there, ours = self._path.stat(), os.fstat(self._handle)
        except OSError:
            return False
        return (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev)

    def require(self) -> None:
        """Raise LostError unless this process still owns the lease, GoneError if its folder is gone."""
        if not self.held:
            require_there(self._path)
            raise LostError(
                f"{self._path} was taken over by another worker while this one was suspended; it goes on there"
            )

    def report(self, doing: Mapping[str, Any], *, at_once: bool = False) -> None:
        """Say what the owner is doing, in plain values, for `ssl3d status`: with the next count, or at once."""
        self._doing = dict(doing)
        if at_once:
            with suppress(OSError):
                self._write()

    def release(self) -> None:
        """Give the lease back."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        with suppress(OSError):
            if self.held:
                self._path.unlink()
        os.close(self._handle)

    def _beat(self, seconds: float) -> None:
        while not self._ended.wait(seconds):
            with suppress(OSError):  # such as a full disk: the next write may succeed
                self._write()
                os.fsync(self._handle)

    def _write(self) -> None:
        """Write the counter to the open file: writing to a file that was set aside is harmless."""
        self._count += 1
        content = {"count": self._count, "host": _host(), "pid": os.getpid(), "started": _started(os.getpid())}
        content |= {"token": self._token}
        data = json.dumps({**content, "doing": self._doing}).encode()
        if len(data) > SIZE:
            data = json.dumps(content).encode()
        os.pwrite(self._handle, data.ljust(SIZE), 0)


def _create(path: Path, beat_seconds: float) -> Lease | None:
    """Create a lease's file exclusively; None if it exists."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return None
    try:
        return Lease(path, handle, beat_seconds)
    except OSError:
        os.close(handle)
        path.unlink(missing_ok=True)
        raise


def _set_aside(path: Path, expected: bytes) -> bool:
    """Move a dead owner's file out of the way. One that is not the dead owner's is put back."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        path.rename(aside)
    except FileNotFoundError:  # another worker was faster
        return True
    try:
        same = aside.read_bytes() == expected
        if not same:  # another worker has taken over meanwhile, and this is its lease
            with suppress(FileExistsError):
                os.link(aside, path)
        return same
    finally:
        aside.unlink(missing_ok=True)


def parsed(content: bytes) -> dict[str, Any]:
    """Return the content of a lease's file; empty while it is being written."""
    try:
        owner = json.loads(content)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


@cache
def _host() -> str:
    """Identify this machine since its last boot, and the process namespace."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    visible = str(namespace.readlink()) if namespace.is_symlink() else ""
    return f"{socket.gethostname()} {boot.read_text().strip() if boot.is_file() else ''} {visible}"


def lives(owner: dict[str, Any]) -> bool | None:
    """Return whether the owner of a lease is alive, from its content; None if it is on another machine."""
    return _process_lives(owner) if owner.get("host") == _host() else None


def _process_lives(owner: dict[str, Any]) -> bool:
    """Return whether the local process that owns a lease is alive; another process may have reused its number."""
    pid = owner.get("pid")
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _started(pid) == owner.get("started")


def _started(pid: int) -> str:
    """Return when a process was started, in ticks since boot; empty if the system does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]

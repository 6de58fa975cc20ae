"""Leases: any number of workers share a run, and no artifact is made by two of them at once. Loads no torch.

A lease is a file that its owner created exclusively (O_EXCL, which holds on network file systems too; no file lock is
relied on) and in which it counts upwards while it lives. A dead owner on the same machine is recognised at once, by its
process. An owner on another machine is taken for dead when its count has not moved for a time on the observer's clock:
clocks of two machines are never compared. An owner finds out that its lease was taken over when it asks ``held``, which
it does before it writes a record.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ssl3d.errors import RunError
from ssl3d.files import make_folder, require_there, unwritable

BEAT_SECONDS = 5.0
EXPIRES = 120.0  # many beats: a network file system may show them late


class LostError(RunError):
    """The lease was taken over while its owner was suspended: another worker makes the artifact."""


class _Seen(NamedTuple):
    """Another worker's lease: its content, since when that is the same, and whether its owner is known to live."""

    content: bytes
    since: float
    alive: bool


@dataclass
class Leases:
    """The leases in one folder, as one worker sees them.

    Attributes:
        folder: made if absent.
        beat_seconds: between two counts of an owner.
        expires: seconds without a count after which an owner on another machine is taken for dead.
    """

    folder: Path
    beat_seconds: float = BEAT_SECONDS
    expires: float = EXPIRES
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def acquire(self, key: str) -> Lease | None:
        """Return the lease on an artifact; None while another worker that lives holds it.

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
        """Whether the owner of a lease that was refused is known to live: a process of this machine, or seen counting.

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
        """Whether the owner of a lease is dead; its file is then out of the way."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return True
        if not self._is_dead(path.stem, content):
            return False
        return _set_aside(path, content)

    def _is_dead(self, key: str, content: bytes) -> bool:
        owner, seen, now = _parsed(content), self._seen.get(key), time.monotonic()
        if owner.get("host") == _host():
            alive = _alive(owner)
            self._seen[key] = _Seen(content, now, alive)
            return not alive
        if seen is None or seen.content != content:
            self._seen[key] = _Seen(content, now, alive=seen is not None)
            return False
        return now - seen.since > self.expires


class Lease:
    """A lease that this process holds, with a thread that counts in it. Made by :meth:`Leases.acquire`."""

    def __init__(self, path: Path, handle: int, beat_seconds: float) -> None:
        self._path, self._handle = path, handle
        self._ended = threading.Event()
        self._count = 0
        self._token = uuid.uuid4().hex
        self._write()
        self._thread = threading.Thread(target=self._beat, args=(beat_seconds,), name="lease", daemon=True)
        self._thread.start()

    @property
    def held(self) -> bool:
        """Whether the lease is still this process's."""
        try:
            there, ours = self._path.stat(), os.fstat(self._handle)
        except OSError:
            return False
        return (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev)

    def require(self) -> None:
        """Raise LostError unless the lease is still this process's, GoneError if its folder is gone."""
        if not self.held:
            require_there(self._path)
            raise LostError(
                f"{self._path} was taken over by another worker while this one was suspended; it goes on there"
            )

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
            with suppress(OSError):  # a full disk, say: the next count may succeed
                self._write()

    def _write(self) -> None:
        """Count, in the open file: a file that was set aside is written to in vain, and harms nobody."""
        self._count += 1
        content = {"count": self._count, "host": _host(), "pid": os.getpid(), "started": _started(os.getpid())}
        data = json.dumps({**content, "token": self._token}).encode().ljust(512)
        os.pwrite(self._handle, data, 0)
        os.fsync(self._handle)


def _create(path: Path, beat_seconds: float) -> Lease | None:
    """Create a lease's file exclusively; None if it is there."""
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
    except FileNotFoundError:  # another worker was quicker
        return True
    try:
        same = aside.read_bytes() == expected
        if not same:  # another worker has taken over in between, and this is its lease
            with suppress(FileExistsError):
                os.link(aside, path)
        return same
    finally:
        aside.unlink(missing_ok=True)


def _parsed(content: bytes) -> dict[str, Any]:
    """What a lease's file says; nothing while it is being written."""
    try:
        owner = json.loads(content)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


@cache
def _host() -> str:
    """This machine until it is started again, and the set of processes that are visible from here."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    visible = str(namespace.readlink()) if namespace.is_symlink() else ""
    return f"{socket.gethostname()} {boot.read_text().strip() if boot.is_file() else ''} {visible}"


def _alive(owner: dict[str, Any]) -> bool:
    """Whether the process that owns a lease on this machine lives; another one may have its number by now."""
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
    """When a process was started, in ticks since the machine was; empty where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]

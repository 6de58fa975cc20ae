"""Atomic file writes, and file names that several parts of the project share. Loads no torch."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ssl3d.errors import RunError

CHECKPOINT = "checkpoint.pt"  # of an unfinished pretraining
LOG = "log.csv"  # of a pretraining: one row per epoch
FULL = (errno.ENOSPC, errno.EDQUOT)  # no space, no inode, or no quota left
_watched: dict[Path, int] = {}  # folders that must stay in place, held open so that their inodes are not reused


class GoneError(RunError):
    """The folder that this process works in was deleted, renamed or replaced."""


@contextmanager
def watched(*folders: Path) -> Iterator[None]:
    """Refuse to write into these folders once they are deleted or renamed, so that no parts of them reappear.

    Args:
        folders: existing folders.
    """
    added = {folder.resolve() for folder in folders} - _watched.keys()
    try:
        for folder in added:
            _watched[folder] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        yield
    finally:
        for folder in added & _watched.keys():
            os.close(_watched.pop(folder))


def require_there(path: Path) -> None:
    """Raise GoneError if ``path`` lies in a watched folder that is gone."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow a link that took its place
    for folder, handle in _watched.items():
        if folder in (absolute, *absolute.parents) and not _is(folder, handle):
            raise GoneError(
                f"{folder} was deleted or renamed while this process worked in it; nothing more is written, and the "
                "same command goes on with the folder wherever --out names it"
            )


def _is(folder: Path, handle: int) -> bool:
    """Return whether an open folder is still the one at this path."""
    try:
        return os.path.samestat(folder.stat(), os.fstat(handle))
    except OSError:
        return False


def make_folder(path: Path) -> None:
    """Make a folder and its parents; raises GoneError below a watched folder that is gone, RunError otherwise."""
    require_there(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> RunError:
    """Return the error for a path that cannot be written: what is wrong, where, and what to do."""
    if error.errno not in FULL:
        return RunError(f"{path} cannot be written ({error.strerror}); choose another folder, or allow writing there")
    return RunError(f"{path} cannot be written: {_full(path, error)}; free some, and the same command goes on")


def _full(path: Path, error: OSError) -> str:
    """Return what the file system of a path has run out of."""
    if error.errno == errno.EDQUOT:
        return "the disk quota is used up"
    there = next((parent for parent in (path, *path.parents) if parent.exists()), Path("/"))
    status = os.statvfs(there)
    no_inodes = status.f_files > 0 and status.f_favail == 0
    return "the file system has no free inodes (it holds too many files)" if no_inodes else "the disk is full"


def write_atomic(path: Path, content: str | bytes | Callable[[IO[bytes]], None], *, more_follow: bool = False) -> None:
    """Write a file beside ``path``, flush it to disk, and rename it to ``path``.

    If the process is killed, ``path`` holds either the old or the new content. A symbolic link at ``path`` is
    replaced, not followed.

    Args:
        path: destination; its folder is created if missing.
        content: bytes, UTF-8 text, or a function that writes into the open file.
        more_follow: the next file in the same folder makes the names of both survive a power failure.

    Raises:
        RunError: the folder cannot be written; the message says so if the disk is full.
        GoneError: the path lay in a watched folder that is gone.
    """
    require_there(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # `require_there` has just checked
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=partial_prefix(path.name), delete=False) as file:
            try:
                _write(file, content)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).chmod(0o666 & ~_umask())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        if not more_follow:
            _sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error


def partial_prefix(name: str) -> str:
    """Return the prefix of a file's name while it is being written."""
    return f".{name}.partial-"


def remove_partial(folder: Path, *names: str) -> None:
    """Delete the partial files left by processes that were killed while writing files of these names in a folder."""
    prefixes = tuple(partial_prefix(name) for name in names)
    for leftover in folder.glob(f"{partial_prefix('*')}*"):  # one look at the folder for all names
        if leftover.name.startswith(prefixes):
            leftover.unlink(missing_ok=True)


def _write(file: IO[bytes], content: str | bytes | Callable[[IO[bytes]], None]) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content if isinstance(content, bytes) else content.encode())


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

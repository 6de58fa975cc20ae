"""Files that are either whole or absent, and the names of those that several parts of the project know. No torch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ssl3d.errors import RunError

CHECKPOINT = "checkpoint.pt"  # of a pretraining that is not finished
LOG = "log.csv"  # of a pretraining: one row per epoch


def write_atomic(path: Path, content: str | bytes | Callable[[IO[bytes]], None]) -> None:
    """Write a file beside ``path``, flush it to the disk, and rename it over ``path``.

    Killed at any moment, ``path`` holds the old content or the new one. A symbolic link at ``path`` is replaced, not
    followed.

    Args:
        path: its folder is made if absent.
        content: bytes, UTF-8 text, or a function that writes into the open file.

    Raises:
        RunError: the folder cannot be written; says so of a full disk.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
        _sync_folder(path.parent)
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror}); free space or choose another folder") from error


def partial_prefix(name: str) -> str:
    """Return how the name of a file begins while it is written."""
    return f".{name}.partial-"


def remove_partial(folder: Path, name: str) -> None:
    """Delete what processes that were killed while they wrote ``folder/name`` have left."""
    for leftover in folder.glob(f"{partial_prefix(name)}*"):
        leftover.unlink(missing_ok=True)


def _write(file: IO[bytes], content: str | bytes | Callable[[IO[bytes]], None]) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content if isinstance(content, bytes) else content.encode())


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

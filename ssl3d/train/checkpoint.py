"""Checkpoints of a pretraining, written atomically."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, cast

import torch

from ssl3d.errors import RunError
from ssl3d.files import CHECKPOINT, write_atomic


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write a state to the folder's checkpoint. If killed, the file holds the last complete state.

    Raises:
        RunError: it cannot be written, for example because the disk is full; the last state is kept.
    """
    write_atomic(folder / CHECKPOINT, lambda file: _write(state, file))


def _write(state: dict[str, Any], file: IO[bytes]) -> None:
    """Serialise a state. When a write fails, torch says "unexpected pos" at best: raise the system's error instead."""
    noted = _Noted(file)
    try:
        torch.save(state, cast("IO[bytes]", noted))
    except RuntimeError:
        if noted.error is None:
            raise
        raise noted.error from None


class _Noted:
    """A file that remembers the first error of a write."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write to the file."""
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()


def load(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """Return the last state saved in a folder, or None if there is none.

    Raises:
        RunError: the file is not a checkpoint.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # on a damaged file the reader raises almost anything
        # The reader's message is left out: for a pickled object it explains how to load it anyway.
        raise _damaged(path, type(error).__name__) from error
    if not (isinstance(state, dict) and "key" in state):
        raise _damaged(path, "it holds something else")
    return state


def engine(folder: Path) -> dict[str, Any] | None:
    """Return the engine stored in a folder's checkpoint as plain values; None if there is no checkpoint.

    Raises:
        RunError: the file is not a checkpoint.
    """
    saved = load(folder, torch.device("meta"))  # without the numbers
    return None if saved is None else saved.get("engine") or None


def remove(folder: Path) -> None:
    """Delete the checkpoint of a completed pretraining."""
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _damaged(path: Path, why: str) -> RunError:
    return RunError(f"{path} cannot be read as a checkpoint ({why}); delete it to start this encoder again")

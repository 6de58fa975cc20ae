"""Checkpoints that are whole or not there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from ssl3d.errors import RunError

NAME = "checkpoint.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write a state to ``folder/checkpoint.pt``: to a temporary file that then takes its place at once.

    Killed at any moment, the file holds the last complete state.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".checkpoint-", delete=False) as file:
        try:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(folder / NAME)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    _sync(folder)


def load(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """Return the last state saved in a folder, or None if there is none.

    Raises:
        RunError: the file is not a checkpoint.
    """
    for leftover in folder.glob(".checkpoint-*"):  # of a process that was killed while it wrote
        leftover.unlink(missing_ok=True)
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged file makes the reader raise nearly anything
        # The reader's own words are left out: for a pickled object they tell how to load it all the same.
        raise _damaged(path, type(error).__name__) from error
    if not (isinstance(state, dict) and "recipe" in state):
        raise _damaged(path, "something else is in it")
    return state


def engine(folder: Path) -> dict[str, Any] | None:
    """Return how the run whose checkpoint lies in a folder was carried out; None if there is none.

    Raises:
        RunError: the file is not a checkpoint.
    """
    saved = load(folder, torch.device("meta"))  # without the numbers
    return None if saved is None else saved.get("engine") or None


def _damaged(path: Path, why: str) -> RunError:
    return RunError(f"{path} cannot be read as a checkpoint ({why}); delete it to start this cell anew")


def remove(folder: Path) -> None:
    """Delete the checkpoint of a cell that is done."""
    (folder / NAME).unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Make the new name survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Handling of closed output, as in ``ssl3d bench | head``."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

CLOSED = 141  # exit code, as in a shell for a program ended by SIGPIPE


def prepare() -> None:
    """Make the standard streams writable: output to a closed one is discarded, characters it lacks are escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # until the process ends
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def silence(out: TextIO) -> None:
    """Discard pending output: a closed reader is not an error, not even at exit."""
    with suppress(OSError, ValueError):  # a stream without a file descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)


def stop_run() -> None:
    """Stop a run as SIGTERM does: the current step is finished, a checkpoint written, and the command can resume.

    Raises:
        KeyboardInterrupt: no run is in progress.
    """
    if signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, signal.SIG_IGN, None):
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGTERM)

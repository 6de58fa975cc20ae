"""What happens when nobody reads the output any more, as in ``ssl3d bench | head``."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

CLOSED = 141  # exit code, as a shell has it for a program that SIGPIPE ended


def prepare() -> None:
    """Make standard streams that can be written to: a closed one discards, one without Unicode escapes."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # until the process ends
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def silence(out: TextIO) -> None:
    """Discard what is still to be written: a reader that has gone is not an error, at exit neither."""
    with suppress(OSError, ValueError):  # a stream without a file of its own
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)


def stop_run() -> None:
    """Stop a run as SIGTERM does: the current step is finished, a checkpoint written, and the same command goes on.

    Raises:
        KeyboardInterrupt: nothing is being run.
    """
    if signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, signal.SIG_IGN, None):
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGTERM)

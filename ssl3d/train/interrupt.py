"""Ctrl-C and SIGTERM (as Slurm sends before the limit) wait for the end of the step in hand."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """The user or the scheduler asked to stop; a checkpoint was written."""


@dataclass
class Stop:
    """Whether a signal has asked to stop."""

    requested: bool = False


@contextmanager
def deferred() -> Iterator[Stop]:
    """Turn the first SIGINT or SIGTERM inside into a request; a second one acts at once.

    Outside the main thread signals cannot be caught, and nothing is changed.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # the shape that signal.signal asks for
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

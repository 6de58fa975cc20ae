"""Ctrl-C and SIGTERM (as Slurm sends before the limit) wait for the end of the current step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class Interrupted(KeyboardInterrupt):
    """The user or the scheduler asked to stop; a checkpoint was written."""


@dataclass
class Stop:
    """Whether a signal has asked to stop."""

    requested: bool = False


@contextmanager
def handled(act: Callable[[], None], *numbers: signal.Signals) -> Iterator[None]:
    """Call ``act`` on these signals inside. Outside the main thread signals cannot be caught: nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: act()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt() -> None:
    """Raise KeyboardInterrupt, as Ctrl-C does."""
    raise KeyboardInterrupt


@contextmanager
def deferred() -> Iterator[Stop]:
    """Turn the first SIGINT or SIGTERM inside into a request; a second one acts at once."""
    stop = Stop()

    def act() -> None:
        if stop.requested:
            interrupt()
        stop.requested = True

    with handled(act, signal.SIGINT, signal.SIGTERM):
        yield stop

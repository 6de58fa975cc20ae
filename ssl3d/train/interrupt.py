"""Ctrl-C, SIGTERM (sent by Slurm before the limit) and SIGHUP (a closed terminal), deferred to the end of a step."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

STOPPING = (signal.SIGTERM, signal.SIGHUP)  # beside SIGINT, which Python turns into KeyboardInterrupt by itself


class Interrupted(KeyboardInterrupt):
    """The user or the scheduler asked to stop; a checkpoint was written."""


@dataclass
class Stop:
    """A flag that a signal has asked to stop."""

    requested: bool = False


@contextmanager
def handled(act: Callable[[], None], *numbers: signal.Signals) -> Iterator[None]:
    """Call ``act`` on these signals inside. Outside the main thread signals cannot be caught, so nothing changes.

    SIGHUP stays ignored if it was (``nohup``). When it arrives, the terminal is gone, so output to it is discarded: a
    failing write must not precede the checkpoint.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number for number in numbers if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN}
    terminals = [handle for handle in (1, 2) if os.isatty(handle)]

    def received(number: int, _: object) -> None:
        if number == signal.SIGHUP:
            _discard(terminals)
        act()

    before = {number: signal.signal(number, received) for number in numbers if number not in kept}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _discard(handles: list[int]) -> None:
    """Redirect these file handles to the null device."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for handle in handles:
        os.dup2(nowhere, handle)
    os.close(nowhere)


def interrupt() -> None:
    """Raise KeyboardInterrupt, as Ctrl-C does."""
    raise KeyboardInterrupt


@contextmanager
def deferred() -> Iterator[Stop]:
    """Turn the first SIGINT, SIGTERM or SIGHUP inside into a request; a second one takes effect immediately."""
    stop = Stop()

    def act() -> None:
        if stop.requested:
            interrupt()
        stop.requested = True

    with handled(act, signal.SIGINT, *STOPPING):
        yield stop

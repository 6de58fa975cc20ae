"""Views made one micro-batch ahead in a separate thread, while the previous one is being computed.

A view depends on (seed, step, position) alone, so making it early only saves time. On a GPU the thread uses its own
stream, so that its many small kernels run alongside the backbone's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

from ssl3d.method import Views

_Made = tuple[Views, torch.cuda.Event | None]  # the event: when a GPU has made them
K = TypeVar("K")


class Prefetch(Generic[K]):
    """A background producer of the views that will be requested next.

    Args:
        make: returns the views for a key; called in one other thread only.
        device: device of the views.
    """

    def __init__(self, make: Callable[[K], Views], device: torch.device) -> None:
        self._make = make
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            # Existing data were put on the device on this thread's stream.
            self._stream.wait_stream(torch.cuda.current_stream(device))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="views")
        self._keys: Iterator[K] = iter(())
        self._next: tuple[K, Future[_Made]] | None = None

    def follow(self, keys: Iterator[K]) -> None:
        """Set the order in which views will be requested; views made for another order are dropped."""
        self._drop()
        self._keys = keys
        self._begin()

    def get(self, key: K) -> Views:
        """Return the views for a key: immediately if they were made ahead, otherwise once they are made."""
        if self._next is not None and self._next[0] == key:
            future = self._next[1]
            self._begin()
        else:
            future = self._pool.submit(self._work, key)
        try:
            views, ready = future.result()
        finally:
            del future  # it holds an error that it raises, and so this frame, and with it the memory of all callers
        if ready is not None:
            here = torch.cuda.current_stream(views.tensors[0].device)
            here.wait_event(ready)
            for tensor in (*views.tensors, *(row for rows in views.view_rows for row in rows.values())):
                tensor.record_stream(here)  # its memory is not reused before this stream is done with it
        return views

    def close(self) -> None:
        """End the thread after the current item."""
        self._drop()
        self._pool.shutdown()

    def _begin(self) -> None:
        key = next(self._keys, None)
        self._next = None if key is None else (key, self._pool.submit(self._work, key))

    def _drop(self) -> None:
        if self._next is not None:
            self._next[1].cancel()
        self._keys, self._next = iter(()), None

    @torch.no_grad()
    def _work(self, key: K) -> _Made:
        if self._stream is None:
            return self._make(key), None
        with torch.cuda.stream(self._stream):
            return self._make(key), self._stream.record_event()

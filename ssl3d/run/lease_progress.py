"""Progress that is also written into the lease on an artifact: what `ssl3d status` shows, from any machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ssl3d.progress import Progress
from ssl3d.results.lease import Lease


class LeaseProgress(Progress):
    """Passes reports on, and leaves the current part with its time left in a lease."""

    def __init__(self, progress: Progress, lease: Lease, label: str) -> None:
        self._progress, self._lease = progress, lease
        self._doing: dict[str, object] = {"label": label}
        self._began, self._first = time.monotonic(), 0
        lease.report(self._doing, at_once=True)

    def worker(self, number: int) -> Progress:
        """Return what the other receiver returns: one artifact has one worker."""
        return self._progress.worker(number)

    def run_started(self, folder: str, artifacts: Sequence[str]) -> None:
        """Pass it on."""
        self._progress.run_started(folder, artifacts)

    def started(self, artifact: str) -> None:
        """Pass it on."""
        self._progress.started(artifact)

    def phase(self, artifact: str, what: str, total: int, unit: str, done: int = 0) -> None:
        """Pass it on, and write it down."""
        self._progress.phase(artifact, what, total, unit, done)
        self._began, self._first = time.monotonic(), done
        self._doing |= {"phase": what, "done": done, "total": total, "unit": unit, "left": None}
        self._lease.report(self._doing, at_once=True)

    def advance(self, done: int, figures: Mapping[str, float]) -> None:
        """Pass it on, and write it down."""
        self._progress.advance(done, figures)
        total = int(figures.get("of", self._doing.get("total") or 0))  # type: ignore[call-overload]  # an int from phase()
        new = done - self._first
        left = (time.monotonic() - self._began) / new * (total - done) if new > 0 else None
        self._doing |= {"done": done, "total": total, "left": left}
        self._lease.report(self._doing)

    def note(self, text: str) -> None:
        """Pass it on."""
        self._progress.note(text)

    def finished(self, artifact: str, outcome: str) -> None:
        """Pass it on."""
        self._progress.finished(artifact, outcome)

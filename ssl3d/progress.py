"""Progress reports of long work. The base class is silent; the command line shows them. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

BEFORE = "done before"  # outcome of an artifact that already existed


class Progress:
    """Receiver of a run's progress, always called from the process that does the work.

    An artifact is named by its label: "byol on tiny, seed 0, pretrained on mrnet sagittal".
    """

    def worker(self, number: int) -> Progress:  # noqa: ARG002  # the base class is silent
        """Return the receiver of one of several workers, numbered from 1, which report at the same time."""
        return self

    def run_started(self, folder: str, artifacts: Sequence[str]) -> None:
        """Report that a run begins: its folder, and its artifacts by label."""

    def started(self, artifact: str) -> None:
        """Report that work on an artifact begins or resumes."""

    def phase(self, artifact: str, what: str, total: int, unit: str, done: int = 0) -> None:
        """Report that a part of the work begins, with ``done`` of ``total`` units already finished."""

    def advance(self, done: int, figures: Mapping[str, float]) -> None:
        """Report how far the current part has come, with values by name (loss, volumes/s)."""

    def note(self, text: str) -> None:
        """Report one sentence that the user should know."""

    def finished(self, artifact: str, outcome: str) -> None:
        """Report how work on an artifact ended, in one short line."""

"""What long work tells of itself as it goes on. The base says nothing; the command line shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class Progress:
    """Listens to a run. Every method may be called from the process that does the work, at any rate."""

    def run_started(self, folder: str, cells: Sequence[str]) -> None:
        """Hear that a run begins: where it writes, and its cells by name."""

    def cell_started(self, cell: str) -> None:
        """Hear that a cell begins or goes on."""

    def phase(self, cell: str, what: str, total: int, unit: str, done: int = 0) -> None:
        """Hear that a part of the work begins: ``done`` of ``total`` units are already there."""

    def advance(self, done: int, figures: Mapping[str, float]) -> None:
        """Hear how far the part has come, with figures by name (loss, volumes/s)."""

    def note(self, text: str) -> None:
        """Hear one sentence that a person should know."""

    def cell_finished(self, cell: str, outcome: str) -> None:
        """Hear how a cell ended: one short line."""

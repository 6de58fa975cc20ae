"""The progress of workers, which they print as JSON lines, merged for one display. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ssl3d.progress import BEFORE, Progress


@dataclass
class Merged:
    """What several workers report, each artifact's end once.

    Attributes:
        progress: the display.
        failures: reasons by label, from the workers that have ended.
        worked: the workers that ended because nothing was left.
    """

    progress: Progress
    failures: dict[str, str] = field(default_factory=dict)
    worked: set[int] = field(default_factory=set)
    _workers: dict[int, Progress] = field(default_factory=dict)
    _ended: dict[str, str] = field(default_factory=dict)
    _noted: set[str] = field(default_factory=set)

    def line(self, worker: int, text: str) -> None:
        """Show one line that a worker printed; anything but an event is shown as a note."""
        try:
            event = json.loads(text)
            what = event.pop("event")
        except (ValueError, AttributeError, KeyError, TypeError):
            self.note(text)
            return
        if what == "worked":
            self.worked.add(worker)
            self.failures |= event["failures"]
            return
        self._event(self._workers.setdefault(worker, self.progress.worker(worker)), what, event)

    def note(self, text: str) -> None:
        """Show a sentence, once if several workers say the same."""
        if text.strip() and text not in self._noted:
            self._noted.add(text)
            self.progress.note(text)

    def _event(self, worker: Progress, what: str, values: dict[str, Any]) -> None:
        match what:
            case "started":
                worker.started(values["artifact"])
            case "phase":
                worker.phase(values["artifact"], values["phase"], values["total"], values["unit"], values["done"])
            case "progress":
                worker.advance(values.pop("done"), _figures(values))
            case "note":
                self.note(values["text"])
            case "finished":
                self._finished(worker, values["artifact"], values["outcome"])

    def _finished(self, worker: Progress, artifact: str, outcome: str) -> None:
        """Pass on how work on an artifact ended; to the other workers it was done before."""
        if self._ended.get(artifact, BEFORE) != BEFORE or self._ended.get(artifact) == outcome:
            return
        self._ended[artifact] = outcome
        worker.finished(artifact, outcome)


def _figures(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the values by name; JSON has null for those that are not finite."""
    return {name: float("nan") if value is None else float(value) for name, value in values.items()}

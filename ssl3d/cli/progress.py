"""Progress for people and programs: bars in a terminal, lines elsewhere, JSON on request."""

from __future__ import annotations

import errno
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from ssl3d.cli.pipe import silence, stop_run
from ssl3d.errors import printable
from ssl3d.progress import BEFORE, Progress

LINE_SECONDS = 5.0  # minimum time between two lines on one part of the work
HIDDEN = frozenset({"epoch", "epochs", "epoch step", "epoch steps", "of"})  # values shown separately


def progress_for(console: Console, *, quiet: bool, as_json: bool) -> Progress:
    """Return the progress display: none, JSON, bars in a terminal, or lines."""
    if quiet:
        return Progress()
    if as_json:
        return JsonProgress(sys.stdout)
    return BarProgress(console) if console.is_terminal else LineProgress(sys.stdout)


def counted(things: Sequence[object], word: str = "artifact") -> str:
    """Return "1 artifact" or "3 artifacts"."""
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"


def words(figures: Mapping[str, float]) -> str:
    """Return values as text: "epoch 3/30, loss 1.234, volumes/s 210"."""
    epoch = [f"epoch {figures['epoch']:.0f}/{figures['epochs']:.0f}"] if "epoch" in figures else []
    rest = [f"{name} {value:.4g}" for name, value in figures.items() if name not in HIDDEN]
    return ", ".join(epoch + rest)


def plain(text: str) -> str:
    """Return external text (ids, notes, plugin names) so that rich shows it as it is and the terminal ignores it."""
    return escape(printable(text))


class _Part:
    """The bars of one worker: its current part, and the current epoch of that."""

    def __init__(self, bars: Bars, prefix: str = "") -> None:
        self._bars, self._prefix = bars, prefix
        self._part: TaskID | None = None
        self._epoch: TaskID | None = None

    def begin(self, what: str, total: int, done: int) -> None:
        """Show the bar of this part, instead of the previous one."""
        for task in (self._part, self._epoch):
            if task is not None:
                self._bars.remove_task(task)
        self._epoch = None
        self._part = self._bars.add_task(plain(self._prefix + what), total=total, completed=done, figures="")

    def advance(self, done: int, figures: Mapping[str, float]) -> None:
        """Move the bars of this part and of its epoch."""
        if self._part is None:
            return
        total = figures.get("of")
        if "epoch step" not in figures:
            self._bars.update(self._part, completed=done, total=total, figures=plain(words(figures)))
            return
        self._bars.update(self._part, completed=done, total=total)
        if self._epoch is None:
            self._epoch = self._bars.add_task("epoch", total=figures["epoch steps"], figures="")
        if figures["epoch step"] == 1:
            self._bars.reset(self._epoch)
        name = f"{self._prefix}epoch {figures['epoch']:.0f}/{figures['epochs']:.0f}"
        rest = words({key: value for key, value in figures.items() if key != "epoch"})
        self._bars.update(self._epoch, completed=figures["epoch step"], description=plain(name), figures=plain(rest))


class BarProgress(Progress):
    """One bar for all artifacts, and one each for the current part and epoch of every worker."""

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=True,
        )
        self._all: TaskID | None = None
        self._part = _Part(self._bars)
        self._ended: set[str] = set()

    def __enter__(self) -> BarProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def worker(self, number: int) -> Progress:
        """Return the bars of one of several workers."""
        return _WorkerBars(self, _Part(self._bars, f"[{number}] "))

    def run_started(self, folder: str, artifacts: Sequence[str]) -> None:
        """Show the bar of all artifacts."""
        self._bars.console.print(f"{counted(artifacts)}, written to {plain(folder)}")
        self._all = self._bars.add_task("artifacts", total=len(artifacts), figures="")

    def phase(self, artifact: str, what: str, total: int, unit: str, done: int = 0) -> None:  # noqa: ARG002
        """Show the bar of this part, instead of the previous one."""
        self._part.begin(_part(artifact, what), total, done)

    def advance(self, done: int, figures: Mapping[str, float]) -> None:
        """Move the bars of this part and of its epoch."""
        self._part.advance(done, figures)

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(plain(text), style="yellow")

    def finished(self, artifact: str, outcome: str) -> None:
        """Print the outcome of an artifact, unless it already existed, and move the overall bar."""
        if outcome != BEFORE:
            style = "red" if outcome.startswith("failed") else ""
            self._bars.console.print(f"  {plain(artifact)}: {plain(outcome)}", style=style)
        self._ended.add(artifact)
        if self._all is not None:
            self._bars.update(self._all, completed=len(self._ended))


class _WorkerBars(Progress):
    """One of several workers: bars of its own below those of the run."""

    def __init__(self, run: BarProgress, part: _Part) -> None:
        self._run, self._part = run, part

    def phase(self, artifact: str, what: str, total: int, unit: str, done: int = 0) -> None:  # noqa: ARG002
        """Show the bar of this part, instead of the worker's previous one."""
        self._part.begin(_part(artifact, what), total, done)

    def advance(self, done: int, figures: Mapping[str, float]) -> None:
        """Move the worker's bars."""
        self._part.advance(done, figures)

    def finished(self, artifact: str, outcome: str) -> None:
        """Show it as the run does."""
        self._run.finished(artifact, outcome)


class _Written(Progress):
    """Line output; if its reader is gone (``ssl3d bench | head``), the run is asked to stop."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def _write(self, line: str) -> None:
        try:
            self._out.write(printable(line) + "\n")
            self._out.flush()
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):  # a reader that is gone, a terminal that was closed
                raise
            silence(self._out)
            stop_run()


class LineProgress(_Written):
    """Occasional lines, for logs and files."""

    def __init__(self, out: TextIO, prefix: str = "  ") -> None:
        super().__init__(out)
        self._prefix = prefix
        self._part, self._total, self._started, self._first, self._last = "", 0, 0.0, 0, 0.0

    def worker(self, number: int) -> Progress:
        """Return the lines of one of several workers, which begin with its number."""
        return LineProgress(self._out, f"  [{number}] ")

    def run_started(self, folder: str, artifacts: Sequence[str]) -> None:
        """Print where the run writes."""
        self._write(f"{counted(artifacts)}, written to {folder}")

    def phase(self, artifact: str, what: str, total: int, unit: str, done: int = 0) -> None:  # noqa: ARG002
        """Remember the current part."""
        self._part, self._total, self._first = _part(artifact, what), total, done
        self._started = self._last = time.monotonic()

    def advance(self, done: int, figures: Mapping[str, float]) -> None:
        """Print a line if the last one is old enough."""
        now = time.monotonic()
        total = int(figures.get("of", self._total))
        if now - self._last < LINE_SECONDS or done <= self._first:
            return
        self._last = now
        left = (now - self._started) / (done - self._first) * (total - done)
        said = [text for text in (f"{done}/{total}", words(figures), f"{left:.0f} s left") if text]
        self._write(f"{self._prefix}{self._part} {', '.join(said)}")

    def note(self, text: str) -> None:
        """Print the sentence."""
        self._write(text)

    def finished(self, artifact: str, outcome: str) -> None:
        """Print the outcome of an artifact, unless it already existed."""
        if outcome != BEFORE:
            self._write(f"{self._prefix}{artifact}: {outcome}")


class JsonProgress(_Written):
    """One JSON object per line."""

    def __init__(self, out: TextIO, **also: Any) -> None:
        super().__init__(out)
        self._also = also

    def worker(self, number: int) -> Progress:
        """Return the objects of one of several workers, which have its number."""
        return JsonProgress(self._out, worker=number)

    def _print(self, event: str, **values: Any) -> None:
        self._write(json.dumps({"event": event, **self._also, **values}))

    def run_started(self, folder: str, artifacts: Sequence[str]) -> None:
        """Print the run's folder and artifacts."""
        self._print("run", folder=folder, artifacts=list(artifacts))

    def started(self, artifact: str) -> None:
        """Print the label of an artifact."""
        self._print("started", artifact=artifact)

    def phase(self, artifact: str, what: str, total: int, unit: str, done: int = 0) -> None:
        """Print the part that begins."""
        self._print("phase", artifact=artifact, phase=what, total=total, unit=unit, done=done)

    def advance(self, done: int, figures: Mapping[str, float]) -> None:
        """Print how far it has come."""
        finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        self._print("progress", done=done, **finite)

    def note(self, text: str) -> None:
        """Print the sentence."""
        self._print("note", text=text)

    def finished(self, artifact: str, outcome: str) -> None:
        """Print the outcome of an artifact."""
        self._print("finished", artifact=artifact, outcome=outcome)


def _part(artifact: str, what: str) -> str:
    return f"{artifact}: {what}" if artifact else what

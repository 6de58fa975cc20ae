"""Several workers on this machine, each a process of its own, with signals passed on and progress merged."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO

import torch

from ssl3d.errors import RecipeError, RunError
from ssl3d.progress import Progress
from ssl3d.run.launch.command import worker_command, worker_path
from ssl3d.run.launch.events import Merged
from ssl3d.run.options import Options
from ssl3d.run.rank import launched
from ssl3d.train.interrupt import STOPPING, handled

MOST = 512  # workers on one machine
Line = tuple[int, str, str]  # worker, stream, text; an empty stream once it has ended


def check_jobs(options: Options) -> None:
    """Check that so many workers can be started here.

    Raises:
        RecipeError: they cannot, and why.
    """
    if options.jobs == 1:
        return
    if not 0 <= options.jobs <= MOST:
        raise RecipeError(f"--jobs {options.jobs}: 0 to {MOST} workers can be started here")
    if options.devices != 1:
        raise RecipeError(
            "--jobs and --devices cannot be combined: workers take an artifact each, and --devices share one; for "
            "workers with several devices, start `ssl3d work RUN --devices N` yourself"
        )
    if launched():
        raise RecipeError("--jobs: torchrun or srun has started several processes already; leave one of them out")


def devices_of(options: Options, cuda_devices: int | None = None) -> list[str]:
    """Return the device of each worker: GPUs are dealt out in turn, unless one is named.

    Args:
        options: ``device`` and ``jobs``.
        cuda_devices: GPUs of this machine; counted if None.
    """
    count = torch.cuda.device_count() if cuda_devices is None else cuda_devices
    if options.device == "cuda" or (options.device == "auto" and count):
        return [f"cuda:{worker % max(count, 1)}" for worker in range(options.jobs)]
    return ["cpu" if options.device == "auto" else options.device] * options.jobs


def threads_of(jobs: int) -> int:
    """Return the threads of each worker: the cores are shared evenly."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // jobs)


@dataclass
class Jobs:
    """Workers that run on this machine.

    Attributes:
        commands: command of each.
        environment: of all of them, beside this process's.
        progress: receives the progress of all.
        after_each: called after every report.
    """

    commands: Sequence[Sequence[str]]
    environment: dict[str, str]
    progress: Progress
    after_each: Callable[[], None] = lambda: None
    _stopping: bool = field(default=False, init=False)

    def work(self) -> dict[str, str]:
        """Run the workers until all have ended; return the reasons of failures by the label of the artifact.

        A worker that is killed is announced; the others take over what it held.

        Raises:
            RunError: every worker ended without doing its work.
            KeyboardInterrupt: a signal asked to stop, and all of them did.
        """
        merged, lines = Merged(self.progress), SimpleQueue[Line]()
        with self._started() as processes:
            for number, process in enumerate(processes, start=1):
                for name in ("stdout", "stderr"):
                    Thread(target=_listen, args=(number, name, getattr(process, name), lines), daemon=True).start()
            errors = self._show(lines, 2 * len(processes), merged)
            codes = [process.wait() for process in processes]
        if self._stopping:
            raise KeyboardInterrupt
        self._check(codes, errors, merged.worked)
        return merged.failures

    @contextmanager
    def _started(self) -> Iterator[list[subprocess.Popen[str]]]:
        """Start the workers detached from the terminal, whose signals are passed on instead; all end with the block."""
        processes: list[subprocess.Popen[str]] = []
        with handled(partial(self._stop, processes), signal.SIGINT, *STOPPING):
            try:
                for command in self.commands:
                    processes.append(_popen(command, {**os.environ, **self.environment}))
                if self._stopping:  # asked while they were being started
                    self._stop(processes)
                yield processes
            finally:
                for process in processes:
                    if process.poll() is None:  # an error here: each leaves a checkpoint
                        process.terminate()
                for process in processes:
                    process.wait()

    def _stop(self, processes: list[subprocess.Popen[str]]) -> None:
        self._stopping = True
        for process in processes:
            if process.poll() is None:
                process.terminate()

    def _show(self, lines: SimpleQueue[Line], streams: int, merged: Merged) -> dict[int, str]:
        """Show what workers print until all streams have ended; return the last error of each."""
        errors: dict[int, str] = {}
        while streams:
            number, name, text = lines.get()
            if not name:
                streams -= 1
            elif name == "stderr":
                errors[number] = text
            else:
                merged.line(number, text)
                self.after_each()
        return errors

    def _check(self, codes: Sequence[int], errors: dict[int, str], worked: Set[int]) -> None:
        """Announce workers that ended early; raise RunError if all of them did."""
        numbered = enumerate(codes, start=1)
        ended = [_why(number, code, errors.get(number, "")) for number, code in numbered if number not in worked]
        for text in ended:
            self.progress.note(text)
        if len(ended) == len(codes):
            raise RunError(f"no worker was able to do its work: {ended[0]}")


def jobs_here(
    run: Path, options: Options, allow_code: bool, progress: Progress, after_each: Callable[[], None]
) -> Jobs:
    """Return the workers of a planned run on this machine.

    Args:
        run: folder of the run.
        options: ``jobs``, ``device`` and ``weights``.
        allow_code: whether they may import plugins that plan.json names by file or module.
        progress: receives the progress of all.
        after_each: called after every report.
    """
    more = ("--json", "--no-tables")
    commands = [worker_command(run, options, one, *more, allow_code=allow_code) for one in devices_of(options)]
    environment = {"PYTHONPATH": worker_path()}
    if "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = str(threads_of(options.jobs))
    return Jobs(commands, environment, progress, after_each)


def _why(number: int, code: int, error: str) -> str:
    """Return why a worker ended early."""
    if code < 0:
        guess = ", out of memory perhaps" if -code == signal.SIGKILL else ""
        name = signal.strsignal(-code) or f"signal {-code}"
        return f"worker {number} was ended ({name}{guess}); the others take over what it held"
    return f"worker {number} ended early: {error.removeprefix('Error: ') or f'exit code {code}'}"


def _popen(command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603  # our own command
        command,
        env=environment,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )


def _listen(number: int, name: str, stream: IO[str], lines: SimpleQueue[Line]) -> None:
    with stream:
        for text in stream:
            lines.put((number, name, text.rstrip("\n")))
    lines.put((number, "", ""))

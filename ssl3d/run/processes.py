"""Several processes for one pretraining: started here, or by torchrun or Slurm, and connected by Lightning Fabric.

Every process trains its share of each effective batch. The first one leads: it alone packs, evaluates, writes and
reports. The others wait for it to announce an encoder to train along.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment, find_free_network_port
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import multiprocessing
from torch.multiprocessing.spawn import ProcessExitedException, spawn

from ssl3d.errors import RecipeError, RunError, UserError
from ssl3d.progress import Progress
from ssl3d.run.devices import expected_warnings
from ssl3d.run.options import Options
from ssl3d.run.rank import slurm_tasks
from ssl3d.train.interrupt import STOPPING, handled
from ssl3d.train.processes import PATIENCE, leave

T = TypeVar("T")
Work = Callable[[Any, Options, Progress], T]
GPU_PATIENCE = timedelta(minutes=30)
GRACE_SECONDS = 30.0  # that the other processes may take to end after the first one
MOST_ON_A_CPU = 64  # processes, unless it has more cores: each needs memory before it does any work


@dataclass(frozen=True)
class Launched:
    """The number of processes on this node and of nodes, and whether we, torchrun or Slurm started them."""

    local: int
    nodes: int
    here: bool = False


def in_processes(work: Work[T], what: Any, options: Options, progress: Progress) -> T:
    """Return ``work(what, options, progress)``, executed by as many processes as were requested or started.

    Args:
        work: a module-level function, called in every process; the first one's result is returned.
        what: passed to it, by pickle if processes are started here.
        options: ``devices`` is the number of processes; in each process, ``device`` names its own device.
        progress: receives the first process's progress.

    Raises:
        UserError: raised by the first process, or a process was killed.
        KeyboardInterrupt: a signal asked to stop.
    """
    launched = _launched()
    if launched is not None:
        if options.devices not in (1, launched.local):
            raise RecipeError(
                f"--devices {options.devices} differs from the {launched.local} processes that were started on this "
                "node; leave it out, the launcher decides"
            )
        return _joined(work, what, replace(options, devices=launched.local), progress, launched)
    if options.devices == 1:
        return work(what, options, progress)
    return _started(work, what, options, progress)


def check_devices(options: Options, batch_size: int | None) -> None:
    """Check that the machine has as many devices as requested, and that each has work.

    Args:
        options: ``device`` and ``devices``.
        batch_size: smallest effective batch of the run; None if nothing is pretrained.

    Raises:
        RecipeError: there are fewer, one GPU is named for all of them, or a process would get no volume of a batch.
    """
    if options.devices < 1:
        raise RecipeError(f"--devices {options.devices}: at least one is needed")
    if options.devices == 1:
        return
    if ":" in options.device:
        raise RecipeError(f"--device {options.device} names one GPU; with --devices {options.devices} say cuda")
    if _kind(options) == "cuda" and torch.cuda.device_count() < options.devices:
        raise RecipeError(
            f"--devices {options.devices}: torch sees {torch.cuda.device_count()} GPUs; ask for fewer, or for --device "
            "cpu"
        )
    if batch_size is not None and batch_size < options.devices:
        raise RecipeError(
            f"--devices {options.devices}: an effective batch of {batch_size} volumes has none for some of these "
            "processes; ask for fewer, or for a larger --batch-size"
        )
    most = max(MOST_ON_A_CPU, os.cpu_count() or 1)
    if _kind(options) == "cpu" and most < options.devices:
        raise RecipeError(f"--devices {options.devices}: a CPU runs {most} processes at most; ask for fewer")


def _launched() -> Launched | None:
    """Return what a launcher has started, according to the environment; None without a launcher."""
    if TorchElasticEnvironment.detect():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return Launched(local, int(os.environ["WORLD_SIZE"]) // local)
    if slurm_tasks() > 1 and SLURMEnvironment.detect():
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return Launched(slurm_tasks() // nodes, nodes)
    return None


def _joined(work: Work[T], what: Any, options: Options, progress: Progress, launched: Launched) -> T:
    """Connect this process with the others, and work on its own device."""
    kind = _kind(options)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it greets every process, on stderr
    # On GPUs nothing waits long in this group: messages use another one.
    strategy = DDPStrategy(timeout=PATIENCE if kind == "cpu" else GPU_PATIENCE)
    # For processes started here within a one-task Slurm job, Slurm's numbers do not apply.
    plugins = LightningEnvironment() if launched.here else None
    with expected_warnings():
        fabric = Fabric(
            accelerator=kind, devices=options.devices, num_nodes=launched.nodes, strategy=strategy, plugins=plugins
        )
    fabric.launch()
    own = kind if kind == "cpu" else f"cuda:{fabric.local_rank}"
    try:
        return work(what, replace(options, device=own), progress if fabric.global_rank == 0 else Progress())
    finally:
        leave()


def _kind(options: Options) -> str:
    if options.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return options.device.partition(":")[0]


def _started(work: Work[T], what: Any, options: Options, progress: Progress) -> T:
    """Start the processes, wait for them, and forward signals and progress."""
    queues = multiprocessing.get_context("spawn")
    answer, heard = queues.SimpleQueue(), queues.SimpleQueue()
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port()), "NODE_RANK": "0"}
    share = _Share(address, work, what, options, answer, heard)
    context = spawn(_process, (share,), options.devices, join=False)  # type: ignore[no-untyped-call]
    pass_on = partial(_pass_on, context.processes)
    with handled(pass_on, signal.SIGINT, *STOPPING), _relayed(heard, progress):
        _wait(context, answer)
    how, value = answer.get()
    if how == "raised":
        raise value
    if how == "interrupted":
        raise KeyboardInterrupt
    returned: T = value
    return returned


@dataclass(frozen=True)
class _Share:
    """The data that a process started here needs: where to connect, what to do, where to answer."""

    address: Mapping[str, str]
    work: Work[Any]
    what: Any
    options: Options
    answer: Any
    heard: Any


def _process(rank: int, share: _Share) -> None:
    """Run one of the processes, detached from the terminal's signals, which the starting process forwards."""
    os.setpgid(0, 0)
    os.environ.update(share.address, LOCAL_RANK=str(rank))
    progress = Relay(share.heard) if rank == 0 else Progress()
    found: tuple[str, Any]
    try:
        launched = Launched(share.options.devices, nodes=1, here=True)
        found = ("returned", _joined(share.work, share.what, share.options, progress, launched))
    except UserError as error:
        found = ("raised", error)
    except KeyboardInterrupt:
        found = ("interrupted", None)
    if rank == 0:
        share.answer.put(found)


def _wait(context: Any, answer: Any) -> None:
    """Wait until all processes have ended; once the first has ended, wait only briefly for the others."""
    ended: float | None = None
    try:
        while not context.join(timeout=0.2):
            if not answer.empty():
                ended = ended or time.monotonic()
                if time.monotonic() - ended > GRACE_SECONDS:
                    break
    except ProcessExitedException as error:
        if not answer.empty():
            return
        why = f"by signal {error.signal_name}, out of memory perhaps" if error.signal_name else f"({error.exit_code})"
        raise RunError(
            f"process {error.error_index} of {len(context.processes)} was ended {why}; the same command goes on from "
            "the last checkpoint"
        ) from None
    finally:
        for process in context.processes:
            if process.is_alive():
                process.kill()


def _pass_on(processes: list[Any]) -> None:
    """Ask the processes to stop; all stop at the same step."""
    for process in processes:
        if process.is_alive():
            os.kill(process.pid, signal.SIGTERM)


class Relay(Progress):
    """Progress that sends reports through a queue to the process that shows them."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def run_started(self, folder: str, artifacts: Sequence[str]) -> None:
        """Send it through the queue."""
        self._queue.put(("run_started", folder, list(artifacts)))

    def started(self, artifact: str) -> None:
        """Send it through the queue."""
        self._queue.put(("started", artifact))

    def phase(self, artifact: str, what: str, total: int, unit: str, done: int = 0) -> None:
        """Send it through the queue."""
        self._queue.put(("phase", artifact, what, total, unit, done))

    def advance(self, done: int, figures: Mapping[str, float]) -> None:
        """Send it through the queue."""
        self._queue.put(("advance", done, dict(figures)))

    def note(self, text: str) -> None:
        """Send it through the queue."""
        self._queue.put(("note", text))

    def finished(self, artifact: str, outcome: str) -> None:
        """Send it through the queue."""
        self._queue.put(("finished", artifact, outcome))


@contextmanager
def _relayed(queue: Any, progress: Progress) -> Iterator[None]:
    """Forward reports from the queue to ``progress`` until the block ends."""
    failed: list[Exception] = []

    def listen() -> None:
        while (message := queue.get()) is not None:
            name, *arguments = message
            try:
                getattr(progress, name)(*arguments)
            except Exception as error:  # raised below: if nobody read the queue, all processes would wait
                failed.append(error)

    listener = threading.Thread(target=listen, name="progress", daemon=True)
    listener.start()
    try:
        yield
    finally:
        queue.put(None)
        listener.join(timeout=5)
    if failed:
        raise failed[0]

"""Workers as jobs of a Slurm cluster, by submitit: one array, requeued until nothing is left to make.

Slurm signals a job before its time limit; the worker then finishes its step, leaves a checkpoint and ends, and the job
is queued again. A preempted job is queued again by Slurm itself. A worker on any node goes on from the checkpoint.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl3d.errors import RecipeError, RunError
from ssl3d.run.launch.command import worker_path
from ssl3d.run.launch.settings import LauncherSettings

LOGS = "logs"  # below the run's folder
REQUEUES = 10_000  # after a time limit: as often as it takes
INTERRUPTED = 130  # exit code of a worker that was asked to stop
REQUEUE_SECONDS = 60.0  # that Slurm may take to end a job that is queued again
POLL_SECONDS = 0.2  # between two looks at the worker's process


def check_slurm() -> None:
    """Check that jobs can be submitted from here, before anything is packed.

    Raises:
        RecipeError: submitit is not installed, or this machine is not part of a cluster.
    """
    if importlib.util.find_spec("submitit") is None:
        raise RecipeError("--launcher slurm needs submitit: pip install 'ssl3d[slurm]'")
    if shutil.which("srun") is None:
        raise RecipeError("--launcher slurm: this machine has no srun; start it where `sbatch` works")


def submit(run: Path, command: list[str], jobs: int, settings: LauncherSettings) -> list[str]:
    """Submit workers, and return the ids of their jobs.

    Args:
        run: folder of a planned run, which all nodes see.
        command: of a worker, see :func:`ssl3d.run.launch.command.worker_command`.
        jobs: number of workers.
        settings: resources of each.

    Raises:
        RecipeError: submitit is not installed, or this machine is not part of a cluster.
        RunError: Slurm refuses the jobs.
    """
    check_slurm()
    import submitit  # noqa: PLC0415  # an optional dependency

    executor = submitit.SlurmExecutor(folder=run.resolve() / LOGS / "%j", max_num_timeout=REQUEUES)
    executor.update_parameters(**parameters(settings))
    try:
        with executor.batch():
            submitted = [executor.submit(SlurmWorker(command)) for _ in range(jobs)]
        return [job.job_id for job in submitted]
    except (subprocess.CalledProcessError, submitit.core.utils.FailedJobError) as error:
        reason = " ".join(str(error).split()[-40:])
        raise RunError(f"Slurm refuses the jobs: {reason}; see [launcher] of the recipe") from None


def parameters(settings: LauncherSettings) -> dict[str, Any]:
    """Return the parameters of submitit's executor."""
    threads = {} if settings.cpus is None else {"OMP_NUM_THREADS": str(settings.cpus)}
    variables = {"PYTHONPATH": worker_path(), **threads, **settings.environment}
    exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    memory = None if settings.memory_gb is None else f"{round(settings.memory_gb * 1024)}M"
    given = {
        "job_name": "ssl3d",
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "time": settings.minutes,
        "signal_delay_s": settings.signal_seconds,
        "cpus_per_task": settings.cpus,
        "gpus_per_node": settings.gpus,
        "mem": memory,
        "array_parallelism": settings.at_once,
        "setup": [*settings.setup, *exports],
        "additional_parameters": {"requeue": True, **settings.further},
    }
    return {name: value for name, value in given.items() if value is not None}


@dataclass
class SlurmWorker:
    """What a job runs: a worker that sees the signals that Slurm sends to every process of a job.

    SIGTERM, of a preemption or of ``scancel``, reaches the worker itself, which leaves a checkpoint. A preempted job
    that ends in its grace time counts as over, and so is queued again from here. SIGUSR2, which announces the time
    limit, would end a worker: it is blocked there. submitit catches it and calls :meth:`checkpoint`.
    """

    command: list[str]
    _pid: int | None = field(default=None, init=False)
    _ended: bool = field(default=False, init=False)

    def __call__(self) -> int:
        """Run the worker to its end; return its exit code.

        Raises:
            RuntimeError: it did not do its work.
        """
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})  # inherited by the process
        process = subprocess.Popen(self.command)  # noqa: S603  # our own command
        self._pid = process.pid
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        threading.Thread(target=self._wait, args=(process,), daemon=True).start()
        while not self._ended:  # a signal handler may wait for the same, so neither holds a lock
            time.sleep(POLL_SECONDS)
        if process.returncode in (INTERRUPTED, -signal.SIGTERM) and _runs():  # the latter while it was starting
            subprocess.run(["scontrol", "requeue", _job()], check=True)  # noqa: S603, S607  # found as users find it
            time.sleep(REQUEUE_SECONDS)  # Slurm ends this job
        if process.returncode not in (0, 1):  # 1: some artifacts failed, which is recorded
            raise RuntimeError(f"the worker ended with exit code {process.returncode}; see the log")
        return process.returncode

    def checkpoint(self) -> Any:
        """Stop the worker, which leaves a checkpoint, and return what the requeued job runs."""
        from submitit.helpers import DelayedSubmission  # noqa: PLC0415  # an optional dependency

        if self._pid is not None and not self._ended:
            os.kill(self._pid, signal.SIGTERM)
        while self._pid is not None and not self._ended:
            time.sleep(POLL_SECONDS)
        return DelayedSubmission(SlurmWorker(self.command))

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._ended = True


def _job() -> str:
    """Return the id of this job, or of this task of an array: an array and its last task share their job's number."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]


def _runs() -> bool:
    """Return whether Slurm takes this job for running, as one that is preempted and not one that is cancelled."""
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={_job()}"]
    done = subprocess.run(command, text=True, capture_output=True, check=False)  # noqa: S603  # our own command
    return done.stdout.strip() == "RUNNING"

"""The rank of this process, read from its launcher's environment. Loads no torch."""

from __future__ import annotations

import os


def slurm_tasks() -> int:
    """Return how many processes srun started with this one; 1 in a batch script, whatever the job requested."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))


def leads() -> bool:
    """Return whether this process is the first or only one: the others print nothing."""
    rank = os.environ.get("RANK") or (os.environ.get("SLURM_PROCID", "0") if slurm_tasks() > 1 else "0")
    return rank == "0"


def launched() -> bool:
    """Return whether torchrun or srun started several processes, of which this is one."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 or slurm_tasks() > 1

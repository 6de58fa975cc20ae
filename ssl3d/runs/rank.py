"""Which of several processes this is, as its launcher says in the environment. Loads no torch."""

from __future__ import annotations

import os


def leads() -> bool:
    """Return whether this process is the first, or the only one: the others print nothing."""
    under_slurm = os.environ.get("SLURM_NTASKS", "1") != "1"
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0") if under_slurm else "0") == "0"

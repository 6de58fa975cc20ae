"""The ``[launcher]`` section of a recipe file: what workers are given elsewhere. No number depends on it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ssl3d.config import Config
from ssl3d.experiment import LAUNCHER, read_section

VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]  # it becomes part of a shell line


class LauncherSettings(Config):
    """Resources of each worker, and where it runs. It is part of no key: change it whenever you like."""

    partition: str | None = Field(None, description="partition of the cluster, where it is not the default one")
    account: str | None = Field(None, description="account that is charged")
    qos: str | None = Field(None, description="quality of service")
    constraint: str | None = Field(None, description="features that a node must have")
    minutes: int = Field(
        240, ge=1, description="time limit of a job; a worker that needs longer leaves a checkpoint and is queued again"
    )
    signal_seconds: int = Field(120, ge=1, description="time before that limit at which it begins to stop")
    cpus: int | None = Field(None, ge=1, description="cores of a worker, which are its threads as well")
    gpus: int | None = Field(None, ge=1, le=1, description="1 for a worker with a GPU")
    memory_gb: float | None = Field(None, gt=0, description="memory of a worker in GB")
    at_once: int | None = Field(None, ge=1, description="most workers that run at the same time")
    environment: dict[VariableName, str] = Field(default_factory=dict, description="environment of a worker")
    setup: tuple[str, ...] = Field((), description="shell lines before a worker starts, such as 'module load cuda'")
    further: dict[str, Any] = Field(default_factory=dict, description="further options of sbatch, by name")


def read_launcher(file: Path | None, sets: Iterable[str] = ()) -> LauncherSettings:
    """Return the ``[launcher]`` section of a recipe file, with settings ``launcher.KEY=VALUE`` on top.

    Raises:
        RecipeError: the file cannot be read, or a field is unknown, of the wrong type, or out of bounds.
    """
    return LauncherSettings.checked(read_section(LAUNCHER, file, sets), LAUNCHER)

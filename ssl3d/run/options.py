"""How a run is executed: nothing here affects the results, so nothing here is part of a key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ONLY = ""  # name of the root when there is only one data set


def shared_cache() -> Path | None:
    """Return the folder that the environment variable SSL3D_CACHE names; None if it is unset."""
    chosen = os.environ.get("SSL3D_CACHE")
    return Path(chosen).expanduser() if chosen else None


@dataclass(frozen=True)
class Options:
    """Where and how a run is executed.

    Attributes:
        roots: folders of the data sets' files, by the data set's name; "" for the only data set of a run.
        out: folder of the run; None for the default.
        cache: folder of stores, encoders and features shared by runs; None keeps them in the run's folder. Defaults
            to the environment variable SSL3D_CACHE.
        device: "auto", "cpu", "cuda" or "cuda:1".
        devices: number of processes that share every effective batch, each with its own device.
        weights: local file of pretrained weights, used in place of the one that a recipe names.
        jobs: number of workers on this machine, each with an artifact of its own; 0 only plans and packs.
        fresh: delete the contents of an earlier run in the folder. A cache is not touched.
        checkpoint_seconds: minimum time between two checkpoints.
    """

    roots: Mapping[str, Path] = field(default_factory=dict)
    out: Path | None = None
    cache: Path | None = field(default_factory=shared_cache)
    device: str = "auto"
    devices: int = 1
    jobs: int = 1
    weights: Path | None = None
    fresh: bool = False
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Also accept folders as strings."""
        object.__setattr__(self, "roots", {name: Path(root) for name, root in self.roots.items()})
        for name in ("out", "cache", "weights"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value))

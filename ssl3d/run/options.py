"""How a run is carried out: nothing here decides a number, so nothing here is part of a key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ONLY = ""  # the name of the root of the only data set


def shared_cache() -> Path | None:
    """Return the folder that the environment variable SSL3D_CACHE names; None without one."""
    chosen = os.environ.get("SSL3D_CACHE")
    return Path(chosen).expanduser() if chosen else None


@dataclass(frozen=True)
class Options:
    """Where and how the work is done.

    Attributes:
        roots: folders of the data sets' files, by the data set's name; "" for the only data set of a run.
        out: the run's folder; None for the default.
        cache: folder of stores, encoders and features that runs share; None keeps them in the run's folder. Where it is
            not given, the environment variable SSL3D_CACHE names it.
        device: "auto", "cpu", "cuda" or "cuda:1".
        devices: processes that share every effective batch, each with a device of its own.
        weights: local file of pretrained weights, in place of a download.
        fresh: delete what the run's folder holds of an earlier run. A cache is left alone.
        checkpoint_seconds: least time between two checkpoints.
    """

    roots: Mapping[str, Path] = field(default_factory=dict)
    out: Path | None = None
    cache: Path | None = field(default_factory=shared_cache)
    device: str = "auto"
    devices: int = 1
    weights: Path | None = None
    fresh: bool = False
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Accept folders as strings, too."""
        object.__setattr__(self, "roots", {name: Path(root) for name, root in self.roots.items()})
        for name in ("out", "cache", "weights"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value))

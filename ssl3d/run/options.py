"""How a run is carried out: nothing here changes a cell's meaning, so nothing here is in its hash."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """Where the work is done.

    Attributes:
        root: folder of the data set's files; None if it needs none.
        out: the run's folder; None for the default.
        store: folder of packed volumes, which runs can share; None keeps them in the run's own folder.
        device: "auto", "cpu", "cuda" or "cuda:1".
        devices: processes that share every effective batch, one a device.
        weights: local file of pretrained weights, in place of a download.
        fresh: forget what the run's folder holds of an earlier run.
        encoders: folders of other runs, whose encoders are judged where they are those of a cell.
        checkpoint_seconds: least time between two checkpoints.
    """

    root: Path | None = None
    out: Path | None = None
    store: Path | None = None
    device: str = "auto"
    devices: int = 1
    weights: Path | None = None
    fresh: bool = False
    encoders: tuple[Path, ...] = ()
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Take folders as strings, too."""
        for name in ("root", "out", "store", "weights"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value))
        object.__setattr__(self, "encoders", tuple(Path(folder) for folder in self.encoders))

"""What every artifact of a run has in common, and the context in which artifacts are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from ssl3d.progress import Progress
from ssl3d.results.folder import RunFolder
from ssl3d.results.lease import Lease, Leases
from ssl3d.run.options import Options

if TYPE_CHECKING:
    import numpy as np

    from ssl3d.backbone import Backbone


@dataclass
class Context:
    """Where a worker makes artifacts, and what it has loaded.

    Attributes:
        folder: of the run.
        options: how the run is carried out.
        progress: is told how the work goes.
        encoder: loaded last, with the hash of its file.
        features: (N, F_r) by read-out, read last, with the hash of their file.
    """

    folder: RunFolder
    options: Options
    progress: Progress
    encoder: tuple[str, Backbone] | None = None
    features: tuple[str, Mapping[str, np.ndarray]] | None = None
    _leases: dict[Path, Leases] = field(default_factory=dict)

    def leases(self, folder: Path) -> Leases:
        """Return the leases in a folder."""
        return self._leases.setdefault(folder, Leases(folder))


class Artifact(Protocol):
    """An encoder, features or an evaluation: what a run makes, from other artifacts."""

    @property
    def kind(self) -> Literal["encoder", "features", "evaluation"]:
        """What it is."""

    @property
    def key(self) -> str:
        """Hash of what decides it."""

    @property
    def name(self) -> str:
        """Name of its folder."""

    @property
    def label(self) -> str:
        """What it is called in messages."""

    @property
    def needs(self) -> Sequence[Artifact]:
        """What it is made from."""

    def folder(self, context: Context) -> Path:
        """Return where it is kept."""

    def leases(self, context: Context) -> Leases:
        """Return the leases of its kind."""

    def is_complete(self, context: Context) -> bool:
        """Return whether its record and all of its files are there, whole, and made from what is there now."""

    def make(self, context: Context, lease: Lease) -> str:
        """Make it, and return one short line on how it came out.

        Raises:
            Interrupted: a signal asked to stop.
            LostError: another worker has taken over.
            Exception: whatever else goes wrong; nothing that looks like a complete artifact is left.
        """

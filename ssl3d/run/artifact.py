"""The interface shared by all artifacts of a run, and the context in which they are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ssl3d.progress import Progress
from ssl3d.results.folder import RunFolder
from ssl3d.results.lease import Lease, Leases
from ssl3d.results.model import Kind
from ssl3d.run.options import Options

if TYPE_CHECKING:
    import numpy as np

    from ssl3d.backbone import Backbone


@dataclass
class Context:
    """Where a worker makes artifacts, and what it has loaded.

    Attributes:
        folder: folder of the run.
        options: how the run is executed.
        progress: receives progress reports.
        encoder: last encoder loaded, with the hash of its file.
        features: last features read, (N, F_r) by read-out, with the hash of their file.
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
    """An encoder, features, a learning rate or an evaluation: made by a run from other artifacts."""

    @property
    def kind(self) -> Kind:
        """Kind of the artifact."""

    @property
    def key(self) -> str:
        """Hash of everything that decides it."""

    @property
    def name(self) -> str:
        """Name of its folder."""

    @property
    def label(self) -> str:
        """Name used in messages."""

    @property
    def needs(self) -> Sequence[Artifact]:
        """Artifacts that it is made from."""

    def folder(self, context: Context) -> Path:
        """Return the folder in which it is kept."""

    def leases(self, context: Context) -> Leases:
        """Return the leases of this kind of artifact."""

    def is_complete(self, context: Context) -> bool:
        """Return whether its record and files are complete, undamaged, and made from the current inputs."""

    def make(self, context: Context, lease: Lease) -> str:
        """Make it, and return one short line on the outcome.

        Raises:
            Interrupted: a signal asked to stop.
            LostError: another worker has taken over the lease.
            Exception: any other failure; nothing that looks like a complete artifact is left behind.
        """

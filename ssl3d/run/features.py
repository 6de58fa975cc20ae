"""The features of all volumes of a data set under one encoder, extracted once: plain arrays without pickle.

``features.npz`` holds ``ids`` (N,) of every volume of the store, whatever its split or targets, and ``x.READOUT``
(N, F_r), float32, in the same order, for each read-out of the backbone. Other tasks, protocols, read-outs, folds and
label subsets thus reuse them.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from ssl3d.data.store import Store
from ssl3d.evaluate.features import extract
from ssl3d.recipe import Size
from ssl3d.results.feature_file import pack_features, unpack_features
from ssl3d.results.folder import FEATURES, WEIGHTS
from ssl3d.results.lease import Lease, Leases
from ssl3d.results.model import FeaturesRecord
from ssl3d.results.provenance import made_by
from ssl3d.results.records import find_record, read_file, read_record, sound, write_record
from ssl3d.run.artifact import Artifact, Context
from ssl3d.run.devices import open_device
from ssl3d.run.encoder import Encoder, loaded_encoder


@dataclass(frozen=True)
class Features:
    """Features that a run needs.

    Attributes:
        key: hash of everything that decides them.
        name: name of their folder.
        label: name in messages.
        encoder: encoder that computes them.
        store: the volumes.
        view_size: (D, H, W) that volumes are resampled to.
        batch_size: volumes encoded at once.
    """

    key: str
    name: str
    label: str
    encoder: Encoder
    store: Store
    view_size: Size
    batch_size: int
    kind: ClassVar[Literal["features"]] = "features"

    @property
    def needs(self) -> Sequence[Artifact]:
        """The encoder."""
        return (self.encoder,)

    def folder(self, context: Context) -> Path:
        """Return the folder in which they are kept."""
        return context.folder.folder_of(FeaturesRecord, self.name)

    def leases(self, context: Context) -> Leases:
        """Return the leases of features."""
        return context.leases(context.folder.shared_leases)

    def is_complete(self, context: Context) -> bool:
        """Return whether they are complete, undamaged, and made with the current encoder."""
        encoder, folder = self.encoder.record(context), self.folder(context)
        record = find_record(folder, FeaturesRecord, key=self.key)
        if encoder is None or record is None or record.encoder_sha256 != encoder.files[WEIGHTS]:
            return False
        return FEATURES in record.files and sound(folder, record)

    def make(self, context: Context, lease: Lease) -> str:
        """Encode every volume, and write the features."""
        started = time.monotonic()
        network, encoder = loaded_encoder(self.encoder, context)
        context.progress.phase(self.label, "encoding", len(self.store), "volumes")
        found = extract(
            network,
            self.store,
            range(len(self.store)),
            size=self.view_size,
            batch_size=self.batch_size,
            device=open_device(context.options.device, "32-true").device,
            progress=lambda done, _: context.progress.advance(done, {}),
        )
        record = FeaturesRecord(
            key=self.key,
            name=self.name,
            made_by=made_by({}),
            encoder=self.encoder.key,
            encoder_sha256=encoder.files[WEIGHTS],
            data=self.store.name,
            fingerprint=self.store.voxel_fingerprint,
            volumes=len(self.store),
            widths={name: x.shape[1] for name, x in found.items()},
            seconds=time.monotonic() - started,
        )
        content = pack_features(self.store.ids(range(len(self.store))), found)
        lease.require()
        write_record(self.folder(context), record, {FEATURES: content})
        return f"{len(self.store)} volumes"


def loaded_features(features: Features, context: Context) -> Mapping[str, np.ndarray]:
    """Return complete features (N, F_r) by read-out, in the order of the store; the last ones are cached.

    Raises:
        DamagedError: they are not complete, or their file was changed.
    """
    folder = features.folder(context)
    record = read_record(folder, FeaturesRecord)
    digest = record.files[FEATURES]
    if context.features is None or context.features[0] != digest:
        with np.load(io.BytesIO(read_file(folder, record, FEATURES)), allow_pickle=False) as arrays:
            context.features = digest, unpack_features(arrays)
    return context.features[1]

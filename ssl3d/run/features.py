"""Features of a run's encoders, extracted once: ``RUN/features/KEY.npz``, plain arrays without pickle.

A file holds ``key``, ``ids`` (n,) of every volume of the store, whatever its split or labels, and ``x`` (n, F),
float32, in the same order. KEY is a hash of all that decides them, so another task, protocol or share of labels finds
them again. A file that is damaged, or is not what its name says, is made again.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssl3d.backbone import Backbone
from ssl3d.evaluate.features import extract
from ssl3d.results.files import write_atomic
from ssl3d.results.folder import features_folder
from ssl3d.run.encoders import NAME
from ssl3d.run.work import Work

FORMAT = 1  # of the file, and of the extraction: another number, another key
# What reading a file that is absent, cut off, altered or not of this kind raises.
_DAMAGE = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Features:
    """Features of every volume of a store.

    Attributes:
        file: their file's name, below the run's ``features``.
        x: (n, F) float32, in the order of the store.
    """

    file: str
    x: np.ndarray


def features(work: Work, encoder: Backbone) -> Features:
    """Return the features of a cell's encoder: from this run, from one it takes encoders from, or extracted now.

    Args:
        work: the cell; its ``encoder.safetensors`` is written.
        encoder: that file's, on the device.

    Raises:
        RunError: the folder cannot be written.
    """
    key, ids = features_key(work), work.store.ids(range(len(work.store)))
    file = f"{key}.npz"
    own = features_folder(work.folder.parents[1]) / file
    x = read_features(own, ids, encoder.embed_dim)
    if x is None:
        others = (read_features(features_folder(run) / file, ids, encoder.embed_dim) for run in work.options.encoders)
        x = next((found for found in others if found is not None), None)
        x = _extracted(work, encoder) if x is None else x
        write_features(own, ids, x)
    return Features(file, x)


def features_key(work: Work) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of all that decides a cell's features.

    The encoder's file, the data, the size of a view, and the volumes encoded at one time, which decide rounding.
    """
    decides = {
        "format": FORMAT,
        "encoder": hashlib.sha256((work.folder / NAME).read_bytes()).hexdigest(),
        "data": work.store.fingerprint,
        "view_size": work.recipe.view_size,
        "batch_size": work.recipe.evaluate.batch_size,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def read_features(path: Path, ids: list[str], width: int | None = None) -> np.ndarray | None:
    """Return features (n, F) of these volumes, in this order; None if the file is absent, damaged or another one.

    Args:
        path: ``KEY.npz``.
        ids: n case ids.
        width: F, where it is known.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        with np.load(path, allow_pickle=False) as arrays:
            key, found, x = str(arrays["key"]), arrays["ids"].tolist(), arrays["x"]
    except _DAMAGE:
        return None
    fits = x.ndim == 2 and x.dtype == np.float32 and width in (None, x.shape[-1])
    return x if fits and len(x) == len(ids) and found == ids and key == path.stem else None


def write_features(path: Path, ids: list[str], x: np.ndarray) -> None:
    """Write features (n, F) of the volumes with these ids, whole or not at all; raises RunError."""
    buffer = io.BytesIO()
    np.savez(buffer, key=np.array(path.stem), ids=np.array(ids, np.str_), x=x)
    write_atomic(path, buffer.getvalue())


def _extracted(work: Work, encoder: Backbone) -> np.ndarray:
    work.progress.phase(work.cell.name, "encoding", len(work.store), "volumes")
    return extract(
        encoder,
        work.store,
        range(len(work.store)),
        size=work.recipe.view_size,
        batch_size=work.recipe.evaluate.batch_size,
        device=work.device,
        progress=lambda done, _: work.progress.advance(done, {}),
    )

"""The file of features: plain arrays without pickle, ids of volumes and one array per read-out. Loads no torch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np

X = "x."  # in front of the name of a read-out, which could be "ids"


def pack_features(ids: Sequence[str], features: Mapping[str, np.ndarray]) -> bytes:
    """Return the file of features (N, F_r) by read-out, of volumes with N ids."""
    buffer = io.BytesIO()
    arrays = {f"{X}{name}": x for name, x in features.items()}
    np.savez(buffer, ids=np.array(ids, np.str_), **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle
    return buffer.getvalue()


def unpack_features(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return features (N, F_r) by read-out, from the arrays of an open file."""
    return {name.removeprefix(X): arrays[name] for name in arrays if name.startswith(X)}

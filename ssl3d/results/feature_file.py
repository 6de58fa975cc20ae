"""The file of features: plain arrays without pickle, volume ids and one array per read-out. Loads no torch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np

X = "x."  # prefix of a read-out's name, which could otherwise be "ids"


def pack_features(ids: Sequence[str], features: Mapping[str, np.ndarray]) -> bytes:
    """Return the content of a file with features (N, F_r) by read-out of volumes with N ids."""
    buffer = io.BytesIO()
    arrays = {f"{X}{name}": x for name, x in features.items()}
    np.savez(buffer, ids=np.array(ids, np.str_), **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle
    return buffer.getvalue()


def unpack_features(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return features (N, F_r) by read-out, from the arrays of an open file."""
    return {name.removeprefix(X): arrays[name] for name in arrays if name.startswith(X)}

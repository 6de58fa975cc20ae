"""Slices of volumes as pictures: which store holds them, which slices to show, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ssl3d.data.folds import fold_view, joined
from ssl3d.data.manifest import MANIFEST
from ssl3d.data.store import Store
from ssl3d.errors import DataError
from ssl3d.results.folder import read_plan
from ssl3d.results.records import CellResult

SIDE = 112  # pixels of a picture at most: a report stays small
LEFT_OUT = "Pictures of volumes were left out, as was asked (--no-volumes)."


class Pictures:
    """The packed volumes of a run, found by their fingerprint.

    Attributes:
        notes: why a store that is there cannot be used.
    """

    def __init__(self, run: Path) -> None:
        self.notes: list[str] = []
        self._stores: dict[str, Store] = {}
        noted = (read_plan(run) or {}).get("store")
        folders = [run / "store", *([Path(noted)] if noted else [])]
        for path in [path for folder in folders for path in sorted(folder.glob(f"**/{MANIFEST}"))]:
            try:
                store = Store.open(path.parent)
            except DataError as error:
                self.notes.append(str(error))
            else:
                self._stores[store.fingerprint] = store

    def of(self, cell: CellResult) -> Store | None:
        """Return the volumes that a cell was trained and judged on; None if they are not where the run had them."""
        store = None if cell.data is None else self._stores.get(cell.data.fingerprint)
        data = cell.recipe.data
        if store is None or data.folds is None:
            return store
        return fold_view(store, data.folds, data.fold, joined(other.manifest.cases for other in self._stores.values()))

    def by_id(self, cell: CellResult) -> Mapping[str, np.ndarray]:
        """Return the volumes (D, H, W) of a cell by case id, read when they are asked for; empty if there are none."""
        store = self.of(cell)
        return {} if store is None else _ById(store)


class _ById(Mapping[str, np.ndarray]):
    def __init__(self, store: Store) -> None:
        self._store = store
        self._index = {case.id: i for i, case in enumerate(store.manifest.cases)}

    def __getitem__(self, id: str) -> np.ndarray:
        return np.asarray(self._store.volumes([self._index[id]]).voxels[0][0].float().numpy())

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)


def slices(volume: np.ndarray) -> list[np.ndarray]:
    """Return the slices (H, W) at a quarter, a half and three quarters of a volume (D, H, W); fewer for D < 3."""
    D = len(volume)
    return [volume[index] for index in dict.fromkeys([D // 4, D // 2, min(D - 1, 3 * D // 4)])]


def window(volume: np.ndarray) -> tuple[float, float]:
    """Return the grey values shown as black and white: the 0.5th and 99.5th percentile."""
    low, high = np.percentile(volume, [0.5, 99.5])
    return float(low), float(high if high > low else low + 1)


def show(ax: Axes, picture: np.ndarray, limits: tuple[float, float]) -> None:
    """Show a slice (H, W) in grey, at most :data:`SIDE` pixels a side, without an axis."""
    factor = -(-max(picture.shape) // SIDE)
    H, W = (length // factor * factor for length in picture.shape)
    small = picture[:H, :W].reshape(H // factor, factor, W // factor, factor).mean(axis=(1, 3))
    scaled = np.clip((small - limits[0]) / (limits[1] - limits[0]), 0, 1)
    ax.imshow(np.round(scaled * 63) / 63, cmap="gray", vmin=0, vmax=1, interpolation="none")  # 64 greys: small files
    ax.set_axis_off()

"""Slices of volumes as pictures: where they are stored, and which slices to show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from matplotlib.axes import Axes

from ssl3d.data.corpus import Corpus
from ssl3d.data.folds import fold_view, joined
from ssl3d.data.store import Store
from ssl3d.errors import DataError
from ssl3d.report.material import Run
from ssl3d.results.model import EncoderRecord, EvaluationRecord

SIDE = 112  # maximum pixels of a picture, to keep the report small
LEFT_OUT = "Pictures of volumes were left out, as requested (--no-volumes)."
JOINED = " + "  # between the names of the data sets of a corpus


class Pictures:
    """The packed volumes of a run, found through its plan.

    Attributes:
        notes: why an existing store cannot be used.
    """

    def __init__(self, run: Run) -> None:
        self.notes: list[str] = []
        self._stores: dict[str, Store] = {}
        for folder in dict.fromkeys(run.plan.stores.values()):
            try:
                store = Store.open(run.folder / folder)
            except DataError as error:
                self.notes.append(str(error))
            else:
                self._stores[store.name] = store

    def evaluated(self, record: EvaluationRecord) -> Store | None:
        """Return the volumes of an evaluation, in its splits; None if they are not where the run had them."""
        store = self._view(record.data.name, record.recipe.folds, record.recipe.fold)
        if store is None or record.recipe.task not in {task.name for task in store.tasks}:
            return None
        return store if store.evaluation_fingerprint(record.recipe.task) == record.data.fingerprint else None

    def corpus(self, encoder: EncoderRecord, evaluations: Iterable[EvaluationRecord]) -> Corpus | None:
        """Return the volumes that an encoder was pretrained on; None if they are not where the run had them.

        Raises:
            DataError: no volume is left.
        """
        names = [] if encoder.corpus is None else encoder.corpus.name.split(JOINED)
        if not names or len(names) != len(encoder.recipe.corpus):
            return None
        parts = zip(names, encoder.recipe.corpus, strict=True)
        stores = [self._view(name, part.folds, part.fold) for name, part in parts]
        tested = [self.evaluated(record) for record in evaluations]
        found = [store for store in stores if store is not None]
        if len(found) < len(stores):
            return None
        return Corpus.of(found, [store for store in tested if store is not None])

    def by_id(self, record: EvaluationRecord) -> Mapping[str, np.ndarray]:
        """Return the volumes (D, H, W) of an evaluation by case id, read on access; empty if they are missing."""
        store = self.evaluated(record)
        return {} if store is None else _ById(store)

    def _view(self, name: str, folds: int | None, fold: int) -> Store | None:
        store = self._stores.get(name)
        if store is None or folds is None:
            return store
        family = [one.manifest for one in self._stores.values() if one.manifest.family == store.manifest.family]
        return fold_view(store, folds, fold, joined(manifest.cases for manifest in family))


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


def strip(ax: Axes, volume: np.ndarray, limits: tuple[float, float]) -> None:
    """Show the :func:`slices` of a volume (D, H, W) in a row, each with at most :data:`SIDE` pixels a side."""
    pictures = [_small(picture) for picture in slices(volume)]
    gap = np.full((len(pictures[0]), max(1, pictures[0].shape[1] // 28)), np.nan)  # transparent
    row = np.hstack([part for picture in pictures for part in (picture, gap)][:-1])
    scaled = np.clip((row - limits[0]) / (limits[1] - limits[0]), 0, 1)
    ax.imshow(np.round(scaled * 63) / 63, cmap="gray", vmin=0, vmax=1, interpolation="none")  # 64 greys: small files
    ax.set_axis_off()


def _small(picture: np.ndarray) -> np.ndarray:
    """Average blocks of pixels until no side (H, W) is longer than :data:`SIDE`."""
    factor = -(-max(picture.shape) // SIDE)
    H, W = (length // factor * factor for length in picture.shape)
    return np.asarray(picture[:H, :W].reshape(H // factor, factor, W // factor, factor).mean(axis=(1, 3)))

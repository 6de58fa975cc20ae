"""The packed volumes of a run: a store per data set and plane, views of their folds, and corpora."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ssl3d.data.check_cases import SPLITS
from ssl3d.data.corpus import Corpus
from ssl3d.data.folds import Labelled, check_folds, fold_view, joined
from ssl3d.data.manifest import MANIFEST, DamagedStoreError
from ssl3d.data.pack import mark_damaged, pack
from ssl3d.data.store import Store
from ssl3d.errors import DataError, RunError
from ssl3d.progress import Progress
from ssl3d.recipe import EncoderRecipe, digest
from ssl3d.run.planning.datasets import DataPlane
from ssl3d.run.planning.plan import Plan

Which = tuple[str, str | None]  # data set and plane


@dataclass
class PackedVolumes:
    """Stores of all data sets of a plan.

    Attributes:
        plan: plan that they belong to.
        stores: by data set and plane.
    """

    plan: Plan
    stores: Mapping[Which, Store]
    _views: dict[tuple[Which, int], Store] = field(default_factory=dict)

    def view(self, data: str, plane: str | None, folds: int | None, fold: int) -> Store:
        """Return a data set with the split of a fold, or with its own split if there are no folds."""
        store = self.stores[data, plane]
        if folds is None:
            return store
        key = (data, plane), fold
        if key not in self._views:
            # Folds are dealt among the patients of all planes: a patient is in the same fold in every plane.
            self._views[key] = fold_view(store, folds, fold, self.cases(data))
        return self._views[key]

    def cases(self, data: str) -> list[Labelled]:
        """Return the cases of a data set in all planes of the run."""
        return joined(store.manifest.cases for (other, _), store in self.stores.items() if other == data)

    def check_folds(self, data: str, plane: str | None, task: str, folds: int) -> None:
        """Raise DataError unless every fold of a data set has a case of each class of a task."""
        check_folds(self.stores[data, plane], task, folds, self.cases(data))

    def evaluated(self, fold: int) -> list[Store]:
        """Return all data sets that encoders are evaluated on, with the split of a fold."""
        folds = self.plan.experiment.data.folds
        return [self.view(data_plane.data, data_plane.plane, folds, fold) for data_plane in self.plan.evaluated]

    def corpus(self, recipe: EncoderRecipe, fold: int, needs: frozenset[str]) -> Corpus:
        """Return the volumes that an encoder is pretrained on.

        Args:
            recipe: of the encoder.
            fold: fold of the evaluated data sets, whose test cases and their patients are left out.
            needs: rows beyond voxels that its method needs.

        Raises:
            DataError: fewer than two volumes are left, or the data sets are incompatible.
        """
        stores = [self.view(part.data, part.plane, part.folds, part.fold) for part in recipe.corpus]
        corpus = Corpus.of(stores, exclude=self.evaluated(fold), needs=needs, task=recipe.task)
        if len(corpus) < 2:  # the smallest effective batch
            raise DataError(
                f"{corpus.name} has one volume to pretrain on, and a batch needs two; add volumes to the split 'train' "
                "or 'unlabelled', or name another --corpus"
            )
        return corpus

    @property
    def folders(self) -> dict[str, str]:
        """Folders of the stores, by name of the data set and plane."""
        return {store.name: str(store.folder.resolve()) for store in self.stores.values()}


def pack_volumes(plan: Plan, folder: Path, progress: Progress) -> PackedVolumes:
    """Pack the volumes of every data set and plane, or open stores that are packed, unchanged and undamaged.

    Args:
        plan: names the data sets.
        folder: folder of the stores.
        progress: receives reports.

    Raises:
        DataError: a fault of a data set, or a folder that cannot be written.
    """
    found = {}
    for data_plane in plan.planes:
        progress.phase("", f"packing {data_plane.dataset.name}", 1, "volumes")
        found[data_plane.data, data_plane.plane] = pack(
            data_plane.dataset,
            store_folder(folder, data_plane),
            lambda done, total: progress.advance(done, {"of": total}),
            needed_splits(plan, data_plane),
            progress.note,
        )
    return PackedVolumes(plan, found)


@contextmanager
def damage_marked() -> Iterator[None]:
    """Have the next command pack a store again if it turns out to be damaged inside."""
    try:
        yield
    except DamagedStoreError as error:
        with suppress(RunError):  # a read-only cache: the error about the damage is more informative
            mark_damaged(error)
        raise


def open_packed(plan: Plan, folder: Path) -> PackedVolumes | None:
    """Return the packed volumes of a plan without reading their files.

    Returns:
        None if some are not packed, or are so damaged that they must be packed again.

    Raises:
        DataError: a manifest cannot be read, or has another version.
    """
    folders = {(data_plane.data, data_plane.plane): store_folder(folder, data_plane) for data_plane in plan.planes}
    if not all((path / MANIFEST).is_file() for path in folders.values()):
        return None
    try:
        return PackedVolumes(plan, {which: Store.open(path) for which, path in folders.items()})
    except DamagedStoreError:
        return None


def store_folder(folder: Path, data_plane: DataPlane) -> Path:
    """Return the folder of a store, named by its data set and a hash of the volumes' origin."""
    root = data_plane.dataset.root
    origin = digest([data_plane.data, data_plane.plane, str(root.resolve()) if root is not None else None], 8)
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", data_plane.dataset.name).strip("-.")
    return folder / f"{name}-{origin}"


def needed_splits(plan: Plan, data_plane: DataPlane) -> tuple[str, ...]:
    """Return the splits that a data set must have: none if it is only pretrained on, or divided into folds."""
    return SPLITS if data_plane.tasks and plan.experiment.data.folds is None else ()

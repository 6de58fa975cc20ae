"""The packed volumes of a run: a store for each plane, and each cell's own view of one where there are outer folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ssl3d.data.dataset import Dataset
from ssl3d.data.folds import fold_view
from ssl3d.data.manifest import MANIFEST
from ssl3d.data.pack import SPLITS, pack
from ssl3d.data.store import Store
from ssl3d.progress import Progress
from ssl3d.recipe import DataRecipe
from ssl3d.runs.options import Options
from ssl3d.runs.plan import Cell, Plan


@dataclass(frozen=True)
class Stores:
    """Stores by plane; "" where there is no choice."""

    by_plane: Mapping[str, Store]

    def of(self, cell: Cell) -> Store:
        """Return the volumes of a cell, the split that of its fold."""
        return self.view(cell.recipe.data)

    def view(self, data: DataRecipe) -> Store:
        """Return the volumes that a recipe names, the split that of its fold."""
        store = self.by_plane[data.plane or ""]
        return store if data.folds is None else fold_view(store, data.folds, data.fold)

    def fingerprint(self, data: DataRecipe) -> str | None:
        """Return the fingerprint of a recipe's plane; None if this run does not open it."""
        store = self.by_plane.get(data.plane or "")
        return None if store is None else store.fingerprint


def needed_splits(plan: Plan) -> tuple[str, ...]:
    """Splits that a plan's data set must have: none where outer folds take their place."""
    return SPLITS if plan.experiment.data.folds is None else ()


def open_stores(plan: Plan, run: Path, options: Options, progress: Progress) -> Stores:
    """Pack the volumes of every plane, or open them packed, and report what stands in both splits.

    Raises:
        DataError: a fault of the data set, or a folder that cannot be written or holds another one.
    """
    folder = options.store or run / "store"
    found = {}
    for plane, dataset in plan.datasets.items():
        progress.phase("", f"packing {dataset.name}", 1, "volumes")
        found[plane] = pack(
            dataset,
            _folder(folder, dataset, several=len(plan.datasets) > 1),
            lambda done, total: progress.advance(done, {"of": total}),
            needed_splits(plan),
        )
    stores = Stores(found)
    for data in {cell.recipe.data.model_copy(update={"task": None}): None for cell in plan.cells}:
        _report_leaks(stores.view(data), data, progress)
    return stores


def _folder(folder: Path, dataset: Dataset, several: bool) -> Path:
    """The folder itself for one plane; a folder below it, named by the plane, for several, or where it is taken."""
    name = _packed(folder)
    if not dataset.plane or name == dataset.name:
        return folder
    below = folder / dataset.plane
    return below if several or name is not None or (below / MANIFEST).exists() else folder


def _packed(folder: Path) -> str | None:
    """Name of the data set that a folder holds packed; None if it holds none."""
    return Store.open(folder).name if (folder / MANIFEST).exists() else None


def _report_leaks(store: Store, data: DataRecipe, progress: Progress) -> None:
    leaks = store.duplicates()
    if leaks:
        pairs = ", ".join(f"{train} = {test}" for train, test in leaks[:3])
        of = f" of fold {data.fold}" if data.folds else ""
        progress.note(
            f"{len(leaks)} volumes stand in both the training and the test split{of} ({pairs}): scores are too high"
        )

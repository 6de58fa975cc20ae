"""The packed volumes of a run: a store for each plane, and each cell's own view of one where there are outer folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from ssl3d.data.folds import Labelled, fold_view, joined
from ssl3d.data.manifest import MANIFEST
from ssl3d.data.pack import SPLITS, pack
from ssl3d.data.store import Store
from ssl3d.dataset import Dataset
from ssl3d.progress import Progress
from ssl3d.recipe import DataRecipe
from ssl3d.results.records import CellResult
from ssl3d.run.options import Options
from ssl3d.run.plan import Cell, Plan

LEAKS = "stand in both the training and the test split"


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
        return store if data.folds is None else fold_view(store, data.folds, data.fold, self.cases)

    @cached_property
    def cases(self) -> list[Labelled]:
        """Exams of all planes: folds are dealt among them, so an exam is in the same fold in every plane."""
        return joined(store.manifest.cases for store in self.by_plane.values())

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
    sentence = leaks(store, data)
    if sentence:
        progress.note(sentence)


def leaks(store: Store, data: DataRecipe) -> str:
    """Return a sentence on the volumes that stand in both splits; empty if there are none.

    Args:
        store: volumes, the split that of the recipe's fold.
        data: names the fold, and the task whose test volumes count; without a task, all of them do.
    """
    judged = store.indices("test") if data.task is None else store.labelled("test", data.task)
    tested = set(store.ids(judged))
    found = [(train, test) for train, test in store.duplicates() if test in tested]
    if not found:
        return ""
    pairs = ", ".join(f"{train} = {test}" for train, test in found[:3])
    of = f" of fold {data.fold}" if data.folds else ""
    return f"{len(found)} volumes {LEAKS}{of} ({pairs}): scores are too high"


def same_test(result: CellResult, predictions: pd.DataFrame | None, store: Store) -> bool:
    """Whether a result of the same data was judged on the labelled test volumes of a store, as its folds are now."""
    data = result.recipe.data
    if data.folds is None or predictions is None:
        return True
    return set(predictions["case"]) == set(store.ids(store.labelled("test", str(data.task))))

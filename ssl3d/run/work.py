"""A cell in hand: what to do, on which volumes, where, and who hears of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from ssl3d.data.store import Store
from ssl3d.errors import DataError
from ssl3d.progress import Progress
from ssl3d.recipe import Recipe
from ssl3d.run.options import Options
from ssl3d.run.plan import Cell


@dataclass(frozen=True)
class Judged:
    """A task's volumes: numbers in the store and labels, for training heads and for the one test."""

    train: list[int]
    test: list[int]
    train_labels: np.ndarray
    test_labels: np.ndarray

    @classmethod
    def of(cls, store: Store, task: str) -> Judged:
        """Return the labelled volumes of a task.

        Raises:
            DataError: a split has no volume with a label of this task.
        """
        train, test = store.labelled("train", task), store.labelled("test", task)
        for split, found in (("train", train), ("test", test)):
            if not found:
                raise DataError(f"{store.name}: no volume of the {split} split has a label for {task!r}")
        return cls(train, test, store.labels(task, train), store.labels(task, test))

    @property
    def classes(self) -> int:
        """K: the largest label of either split, and one."""
        return int(max(2, self.train_labels.max() + 1, self.test_labels.max() + 1))


@dataclass(frozen=True)
class Work:
    """A cell in hand.

    Attributes:
        cell: what is to be done.
        store: the volumes, on the device where they fit.
        judged: those of the task.
        folder: of the cell.
        fabric: the device.
        options: how the run is carried out.
        progress: what is told.
    """

    cell: Cell
    store: Store
    judged: Judged
    folder: Path
    fabric: Fabric
    options: Options
    progress: Progress

    @property
    def recipe(self) -> Recipe:
        """The cell's recipe."""
        return self.cell.recipe

    @property
    def device(self) -> torch.device:
        """Where the cell is computed."""
        return self.fabric.device

"""The data set contract, whole: cases with labels and splits, and how to read one volume."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from ssl3d.card import Card


@dataclass(frozen=True)
class Case:
    """One volume of a data set.

    Attributes:
        id: unique in the data set, as its own files spell it ("0000").
        split: "train" (pretraining and heads), "test" (scored once); "val" and others are kept and not used.
        labels: class by task, 0..K-1; a task may be missing from a case.
        source: where the volume is, for messages ("train/sagittal/0000.npy").
    """

    id: str
    split: str
    source: str
    labels: Mapping[str, int] = field(default_factory=dict)


class Dataset(ABC):
    """A labelled set of volumes.

    A subclass checks everything that can be checked without reading voxels (folders, tables, labels, duplicates) in
    ``cases``, and everything else in ``read``, raising :class:`ssl3d.errors.DataError`: one sentence that names the
    file, the row where there is one, and what to do.

    Args:
        root: the folder of the files; None if the set needs none.
        plane: one of ``planes``; "" where there is no choice.
        variant: what follows the name in ``--data name:variant``; None if nothing does.
    """

    card: ClassVar[Card]
    planes: ClassVar[tuple[str, ...]] = ("",)  # the first is the default
    synthetic: bool = False  # generated volumes: said wherever numbers from this set appear
    left_right: int | None = None  # spatial axis (0 D, 1 H, 2 W) on which a flip swaps left and right

    def __init__(self, root: Path | None = None, plane: str = "", variant: str | None = None) -> None:
        self.root = root
        self.plane = plane or self.planes[0]
        self.variant = variant

    @property
    @abstractmethod
    def name(self) -> str:
        """Name with variant and plane, for tables ("mrnet sagittal")."""

    @property
    @abstractmethod
    def tasks(self) -> tuple[str, ...]:
        """Tasks that cases are labelled for; the first is the default."""

    @property
    @abstractmethod
    def view_size(self) -> tuple[int, int, int]:
        """(D, H, W) of a view where the recipe says ``auto``."""

    @abstractmethod
    def cases(self) -> list[Case]:
        """Return all cases in a fixed order. Reads tables, not voxels."""

    @abstractmethod
    def read(self, case: Case) -> np.ndarray:
        """Return the volume of a case: (C, D, H, W), uint8, or float16 scaled to [0, 1]."""

"""The data set contract, whole: cases with patients, targets and splits, and how to read one volume."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from ssl3d.card import Card
from ssl3d.task import Targets, Task

Spacing = tuple[float, float, float]  # millimetres between slices, rows, columns


@dataclass(frozen=True)
class Case:
    """One volume of a data set.

    Attributes:
        id: unique in the data set, as its own files spell it ("0000").
        split: "train" (pretraining and heads), "test" (scored once), "unlabelled" (pretraining only); "val" and others
            are kept and not used.
        source: where the volume is, for messages ("train/sagittal/0000.npy").
        patient: the statistical unit; cases of one patient are never separated. The case itself if empty.
        exam: the examination that the volume belongs to; the case itself if empty.
        targets: by task, a class index, a float of a regression, or 0 or 1 for each label of a multi-label task; a
            task may be missing from a case.
    """

    id: str
    split: str
    source: str
    patient: str = ""
    exam: str = ""
    targets: Targets = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fill in the patient and exam that a data set does not know."""
        object.__setattr__(self, "patient", self.patient or self.id)
        object.__setattr__(self, "exam", self.exam or self.id)


@dataclass(frozen=True)
class Volume:
    """One volume as it was read.

    Attributes:
        voxels: (C, D, H, W), uint8, or float16 scaled to [0, 1].
        spacing: millimetres between slices, rows and columns; None where the source does not say.
    """

    voxels: np.ndarray
    spacing: Spacing | None = None


class Dataset(ABC):
    """A set of volumes, labelled or not.

    A subclass checks everything that can be checked without reading voxels (folders, tables, targets, duplicates) in
    ``cases``, and everything else in ``read``, raising :class:`ssl3d.errors.DataError`: one sentence that names the
    file, the row where there is one, and what to do.

    Args:
        root: the folder of the files; None if the set needs none.
        plane: one of ``planes``; "" where there is no choice.
        variant: what follows the name in ``--data name:variant``; None if nothing does.
    """

    card: ClassVar[Card]
    planes: ClassVar[tuple[str, ...]] = ("",)  # the first is the default
    synthetic: bool = False  # generated volumes: stated wherever numbers from this set appear
    knows_patients: bool = True  # False: patients are unknown, and every case is taken for one
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
    def family(self) -> str:
        """Name without the plane ("mrnet"): equal patients of data sets of one family are the same people."""
        return self.name.removesuffix(self.plane).rstrip() if self.plane else self.name

    @property
    @abstractmethod
    def tasks(self) -> tuple[Task, ...]:
        """Tasks that cases have targets for; the first is the default. Empty where nothing is labelled."""

    @property
    @abstractmethod
    def view_size(self) -> tuple[int, int, int]:
        """(D, H, W) of a view where the recipe does not set one."""

    @abstractmethod
    def cases(self) -> list[Case]:
        """Return all cases in a fixed order. Reads tables, not voxels."""

    @abstractmethod
    def read(self, case: Case) -> Volume:
        """Return the volume of a case."""

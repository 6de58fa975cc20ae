"""The complete data set contract: cases with patients, targets and splits, and how to read a volume."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ssl3d.card import Card
from ssl3d.task import Targets, Task

Spacing = tuple[float, float, float]  # millimetres between slices, rows, columns


@dataclass(frozen=True)
class Case:
    """One volume of a data set.

    Attributes:
        id: unique in the data set, spelt as in its own files ("0000").
        split: "train" (pretraining and heads), "test" (scored once), "unlabelled" (pretraining only); "val" and others
            are kept but not used.
        source: location of the volume, for messages ("train/sagittal/0000.npy").
        patient: the statistical unit; cases of one patient are never separated. Defaults to the case.
        exam: the examination that the volume belongs to. Defaults to the case.
        targets: by task, a class index, a float for regression, or 0 or 1 per label of a multi-label task; a case may
            lack a task.
    """

    id: str
    split: str
    source: str
    patient: str = ""
    exam: str = ""
    targets: Targets = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fill in the patient and exam if the data set does not know them."""
        object.__setattr__(self, "patient", self.patient or self.id)
        object.__setattr__(self, "exam", self.exam or self.id)


@dataclass(frozen=True)
class Volume:
    """A volume as read from its file.

    Attributes:
        voxels: (C, D, H, W), uint8, or float16 scaled to [0, 1].
        spacing: millimetres between slices, rows and columns; None where the source does not say.
    """

    voxels: np.ndarray
    spacing: Spacing | None = None


class Dataset(ABC):
    """A set of volumes, labelled or not.

    In ``cases``, a subclass checks everything that can be checked without reading voxels (folders, tables, targets,
    duplicates), and everything else in ``read``. It raises :class:`ssl3d.errors.DataError`: one sentence that names the
    file, the row if there is one, and what to do.

    Args:
        root: folder of the files; None if the set needs none.
        plane: one of ``planes``; "" if there is no choice.
        variant: the part after the name in ``--data name:variant``; None if absent.
    """

    card: ClassVar[Card]
    planes: ClassVar[tuple[str, ...]] = ("",)  # the first is the default
    aliases: tuple[str, ...] = ()  # other names, and collections it was made from, as weights name their corpora
    synthetic: bool = False  # True: generated volumes; stated wherever numbers from this set appear
    knows_patients: bool = True  # False: patients are unknown, and every case counts as one
    left_right: int | None = None  # spatial axis (0 D, 1 H, 2 W) on which a flip swaps left and right
    preset: ClassVar[Mapping[str, Any]] = {}  # recipe fields for so many volumes; methods and users override them
    sound_flips: frozenset[int] = frozenset()  # axes whose mirror images could be volumes of this set, labels unchanged

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
        """Name without the plane ("mrnet"): equal patient names within a family are the same person."""
        return self.name.removesuffix(self.plane).rstrip() if self.plane else self.name

    @property
    @abstractmethod
    def tasks(self) -> tuple[Task, ...]:
        """Tasks with targets, the default first. Empty for an unlabelled data set."""

    @property
    @abstractmethod
    def view_size(self) -> tuple[int, int, int]:
        """(D, H, W) of a view if the recipe does not set one."""

    @abstractmethod
    def cases(self) -> list[Case]:
        """Return all cases in a fixed order. Reads tables, not voxels."""

    @abstractmethod
    def read(self, case: Case) -> Volume:
        """Return the volume of a case."""

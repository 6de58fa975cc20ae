"""A data set held in memory, for tests of packing, stores, folds and corpora."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np

from ssl3d.card import Card
from ssl3d.dataset import Case, Dataset, Volume
from ssl3d.task import Task

TEAR = Task(name="tear", kind="binary", classes=("no", "yes"))
GRADE = Task(name="grade", kind="multiclass", classes=("a", "b", "c", "d"))
FINDING = Task(name="finding", kind="multilabel", classes=("edema", "effusion", "cyst"))
AGE = Task(name="age", kind="regression", classes=(), unit="years")


class Arrays(Dataset):
    """Volumes from memory; counts its reads, and can break down on the way."""

    card: ClassVar[Card] = Card("Arrays", "volumes from memory")

    def __init__(
        self,
        cases: list[Case],
        volumes: Mapping[str, np.ndarray],
        fail_after: int | None = None,
        *,
        tasks: tuple[Task, ...] = (TEAR, GRADE),
        name: str = "arrays",
    ) -> None:
        super().__init__()
        self._cases, self._volumes, self.fail_after = cases, dict(volumes), fail_after
        self._tasks, self._name = tasks, name
        self.reads: list[str] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def tasks(self) -> tuple[Task, ...]:
        return self._tasks

    @property
    def view_size(self) -> tuple[int, int, int]:
        return (4, 6, 8)

    def cases(self) -> list[Case]:
        return self._cases

    def read(self, case: Case) -> Volume:
        if self.fail_after is not None and len(self.reads) >= self.fail_after:
            raise KeyboardInterrupt
        self.reads.append(case.id)
        return Volume(self._volumes[case.id], (3.0, 0.5, 0.5) if case.id == "000" else None)


def of_cases(cases: list[Case], name: str = "arrays", tasks: tuple[Task, ...] = (TEAR,), seed: int = 0) -> Arrays:
    """Give each case a small volume of its own."""
    rng = np.random.default_rng(seed)
    return Arrays(
        cases, {case.id: rng.integers(0, 256, (1, 2, 3, 4), np.uint8) for case in cases}, tasks=tasks, name=name
    )


def arrays(
    shapes: list[tuple[int, int, int, int]], dtype: str = "uint8", seed: int = 0, fail_after: int | None = None
) -> Arrays:
    rng = np.random.default_rng(seed)
    scale = 255 if dtype == "uint8" else 1
    volumes = {f"{i:03d}": (rng.random(shape) * scale).astype(dtype) for i, shape in enumerate(shapes)}
    cases = [
        Case(
            id,
            "test" if i % 3 == 1 else "train",
            f"memory/{id}",
            targets={"tear": i % 2} | ({"grade": i % 4} if i % 2 else {}),
        )
        for i, id in enumerate(volumes)
    ]
    return Arrays(cases, volumes, fail_after)


SHAPES = [(1, 5, 6, 7), (1, 3, 6, 7), (2, 4, 5, 9), (1, 1, 1, 2), (1, 9, 2, 3)]


def one_voxel(data: Arrays) -> None:
    data._volumes["002"] = data._volumes["002"].copy()
    data._volumes["002"][0, 1, 2, 3] ^= 1


def one_label(data: Arrays) -> None:
    data._cases[2] = replace(data._cases[2], targets={"tear": 1})


def one_split(data: Arrays) -> None:
    data._cases[2] = replace(data._cases[2], split="val")


def one_patient(data: Arrays) -> None:
    data._cases[2] = replace(data._cases[2], patient="P")


def one_id(data: Arrays) -> None:
    data._cases[2] = replace(data._cases[2], id="x")
    data._volumes["x"] = data._volumes["002"]


def one_shape(data: Arrays) -> None:
    data._volumes["002"] = data._volumes["002"].reshape(2, 5, 4, 9)

"""Data sets, each with one fault, beside a sound one."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from ssl3d.card import Card
from ssl3d.dataset import Case, Dataset, Volume
from ssl3d.errors import DataError
from ssl3d.task import Target, Task

TEAR = Task(name="tear", classes=("no", "yes"))
GRADE = Task(name="grade", kind="ordinal", classes=("mild", "severe", "worst"))
FINDINGS = Task(name="finding", kind="multilabel", classes=("edema", "effusion"))
SIZE = Task(name="size", kind="regression", classes=(), unit="mm")


class Sound(Dataset):
    """Ten volumes of bytes in files: the first is the number of slices."""

    card: ClassVar[Card] = Card("Sound", "ten volumes of bytes")

    def __init__(self, root: Path | None = None, plane: str = "", variant: str | None = None) -> None:
        super().__init__(root, plane, variant)
        if root is None or not root.is_dir():
            raise DataError(f"there is no folder {root}; name one with --root")
        self.folder = root

    @property
    def name(self) -> str:
        return "sound"

    @property
    def tasks(self) -> tuple[Task, ...]:
        return TEAR, GRADE, FINDINGS, SIZE

    @property
    def view_size(self) -> tuple[int, int, int]:
        return 4, 6, 5

    def cases(self) -> list[Case]:
        files = sorted(self.folder.glob("*.bytes"))
        if not files:
            raise DataError(f"{self.folder} has no files *.bytes; choose another folder")
        return [self.case(number, file.name) for number, file in enumerate(files)]

    def case(self, number: int, file: str) -> Case:
        targets: dict[str, Target] = {
            "tear": number % 2,
            "grade": number % 3,
            "finding": (number % 2, 0),
            "size": number / 2,
        }
        split = "train" if number < 6 else "test"
        return Case(f"c{number}", split, file, f"p{number // 2}", targets=targets if number else {})

    def read(self, case: Case) -> Volume:
        content = (self.folder / case.source).read_bytes()
        if len(content) < 2 or len(content) != 1 + content[0] * 30:
            raise DataError(f"{case.source} is damaged; copy it again")
        return Volume(np.frombuffer(content[1:], np.uint8).reshape(1, -1, 6, 5).copy(), (3.0, 0.5, 0.5))


def write_bytes(folder: Path) -> None:
    """Write the files of :class:`Sound`."""
    rng = np.random.default_rng(0)
    for number in range(10):
        slices = 3 + number % 2
        (folder / f"{number}.bytes").write_bytes(bytes([slices]) + rng.bytes(slices * 30))


class TwoTasksOfOneName(Sound):
    tasks = (TEAR, TEAR)


class TwoCasesOfOneId(Sound):
    def case(self, number: int, file: str) -> Case:
        return replace(super().case(number, file), id=f"c{number // 2}")


class ShuffledCases(Sound):
    def cases(self) -> list[Case]:
        cases = super().cases()
        return [cases[number] for number in np.random.default_rng().permutation(len(cases))]


class PatientInBothSplits(Sound):
    def case(self, number: int, file: str) -> Case:
        return replace(super().case(number, file), patient="p0")


class NothingToTrainOn(Sound):
    def case(self, number: int, file: str) -> Case:
        return replace(super().case(number, file), split="training")


class ClassOutOfRange(Sound):
    def case(self, number: int, file: str) -> Case:
        return replace(super().case(number, file), targets={"tear": 2})


class BoolForAClass(Sound):
    def case(self, number: int, file: str) -> Case:
        return replace(super().case(number, file), targets={"tear": number > 3})


class LabelTooFew(Sound):
    def case(self, number: int, file: str) -> Case:
        return replace(super().case(number, file), targets={"finding": (1,)})


class UndeclaredTask(Sound):
    def case(self, number: int, file: str) -> Case:
        return replace(super().case(number, file), targets={"age": 40})


class TaskOfNobody(Sound):
    tasks = (TEAR, GRADE, FINDINGS, SIZE, Task(name="site"))


class PatientsKnownAfterAll(Sound):
    knows_patients = False


class ArrayForAVolume(Sound):
    def read(self, case: Case) -> Volume:
        return super().read(case).voxels  # type: ignore[return-value]


class NoChannel(Sound):
    def read(self, case: Case) -> Volume:
        return Volume(super().read(case).voxels[0])


class UnscaledFloats(Sound):
    def read(self, case: Case) -> Volume:
        return Volume(super().read(case).voxels.astype(np.float16))


class AugmentsWhenRead(Sound):
    def read(self, case: Case) -> Volume:
        return Volume(super().read(case).voxels + np.random.default_rng().integers(9, dtype=np.uint8))


class DrawsWhenRead(Sound):
    def read(self, case: Case) -> Volume:
        np.random.rand()
        return super().read(case)


class Pickles(Sound):
    def read(self, case: Case) -> Volume:
        volume: Volume = pickle.loads(pickle.dumps(super().read(case)))  # noqa: S301
        return volume


class FailsOnAnEmptyFolder(Sound):
    def cases(self) -> list[Case]:
        self.folder.joinpath("0.bytes").read_bytes()
        return super().cases()


class ReadsDamagedFiles(Sound):
    def read(self, case: Case) -> Volume:
        content = (self.folder / case.source).read_bytes()
        return Volume(np.frombuffer(content[1:], np.uint8)[: len(content) // 30 * 30].reshape(1, -1, 6, 5).copy())

"""The demo: labelled knees in MRNet's layout, generated in seconds. Synthetic, without clinical meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from ssl3d.card import Card
from ssl3d.data.sets.knee import Lesions, draw
from ssl3d.data.sets.mrnet import FINDINGS, FOLDERS, PLANES, SYNTHETIC, TASKS
from ssl3d.dataset import Case, Dataset, Volume
from ssl3d.errors import DataError, nearest
from ssl3d.task import Task

VERSION: Final = 3  # of the generator: increase it when a voxel or label changes, so that stores are packed again
SEED: Final = 20220800
# Streams of random numbers of a case. No stream is 0: to numpy, [a, b] and [a, b, 0] are the same seed, and anatomy
# that shares its draws with the labels would give them away.
LABELS, ANATOMY, DEPTH = 1, 2, 3
CASES: Final = (160, 160)  # train, valid
SIZE: Final = 48
SLICES: Final = (10, 20)
PREVALENCE: Final = {"train": 0.35, "valid": 0.45}  # it shifts between the two, as in MRNet
EFFUSION: Final = 0.2  # fraction of knees with fluid, alone or with a tear: abnormal


class Demo(Dataset):
    """Generated knees: 160 to train on, 160 to test on, (1, 10 to 20, 48, 48), uint8; three planes, three tasks.

    Everything follows from the case id; nothing is read, and no global random state is used. Lesions are small, and the
    knees are shifted, rotated, scaled and lit at random, so that an untrained encoder detects few of them and a
    pretrained one can detect many. PCA (32) and logistic regression on the voxels detect torn ligaments with AUC 0.88.
    Every exam belongs to a different patient.
    """

    card: ClassVar[Card] = Card(
        "Demo (synthetic)",
        "SYNTHETIC knees in MRNet's layout, generated in seconds; to try the software, without clinical meaning",
    )
    planes: ClassVar[tuple[str, ...]] = PLANES
    synthetic = True
    preset: ClassVar[Mapping[str, Any]] = {"pretrain": {"epochs": 6, "batch_size": 16, "lr": 6e-3}}  # a minute or two

    def __init__(self, root: Path | None = None, plane: str = "", variant: str | None = None) -> None:
        super().__init__(None, plane, variant)  # there are no files, so there is no root
        if root is not None:
            raise DataError(f"demo is generated and reads no files; leave --root {root} out, or choose --data mrnet")
        if variant is not None:
            raise DataError(f"demo has no variants, so 'demo:{variant}' is invalid; choose a plane with --plane")
        if self.plane not in PLANES:
            raise DataError(f"demo has no plane {self.plane!r}{nearest(self.plane, PLANES)}")
        self.left_right = 0 if self.plane == "sagittal" else 2
        self.sound_flips = frozenset({self.left_right})  # as in MRNet: a mirrored left knee is a right knee

    @property
    def name(self) -> str:
        """Name with the plane, marked as synthetic."""
        return f"demo (synthetic) {self.plane}"

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of MRNet."""
        return TASKS

    @property
    def view_size(self) -> tuple[int, int, int]:
        """Most of a volume, at a lower resolution: it shows the lesions, is quick, and suits every 3D network."""
        return (8, 32, 32)

    def cases(self) -> list[Case]:
        """Return all cases, sorted by id within train, then test."""
        return [
            Case(
                id=f"{number:04d}",
                split=FOLDERS[folder],
                source=f"demo-{VERSION}/{self.plane}/{number:04d}",
                targets=labels(number, folder),
            )
            for folder, number in _numbers(CASES)
        ]

    def read(self, case: Case) -> Volume:
        """Generate one volume: (1, D, H, W), uint8."""
        folder = "train" if case.split == "train" else "valid"
        return Volume(knee(int(case.id), folder, self.plane, SIZE, SLICES)[None])


def knee(number: int, folder: str, plane: str, size: int, slices: tuple[int, int]) -> np.ndarray:
    """Generate the volume (S, size, size), uint8, of a case.

    Args:
        number: number of the case.
        folder: train or valid, which differ in prevalence.
        plane: plane of the slices.
        size: number of rows and columns.
        slices: minimum and maximum; case 0 has the most, case 1 the fewest, others a number in between.
    """
    fewest, most = slices
    rng = np.random.default_rng([SEED, number, DEPTH, PLANES.index(plane)])
    depth = {0: most, 1: fewest}.get(number, int(rng.integers(fewest, most + 1)))
    return draw(_lesions(number, folder), [SEED, number, ANATOMY], plane, (depth, size, size))


def labels(number: int, folder: str) -> dict[str, int]:
    """Return the labels of a case by task."""
    lesions = _lesions(number, folder)
    abnormal = lesions.acl or lesions.meniscus or lesions.effusion
    return {"acl": int(lesions.acl), "meniscus": int(lesions.meniscus), "abnormal": int(abnormal)}


def _lesions(number: int, folder: str) -> Lesions:
    acl, meniscus, effusion = np.random.default_rng([SEED, number, LABELS]).random(3)
    prevalence = PREVALENCE[folder]
    return Lesions(bool(acl < prevalence), bool(meniscus < prevalence), bool(effusion < EFFUSION))


def _numbers(cases: tuple[int, int]) -> list[tuple[str, int]]:
    """Return (folder, number) of all cases; numbers continue from train to valid, as in MRNet."""
    train, valid = cases
    return [("train" if number < train else "valid", number) for number in range(train + valid)]


def write_demo(
    folder: Path,
    size: int = 256,
    cases: tuple[int, int] = (24, 12),
    slices: tuple[int, int] = (17, 61),
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write generated knees as files in MRNet's exact layout: .npy in folders by plane, tables without header.

    With ``size=48, cases=(160, 160), slices=(10, 20)`` they equal those of :class:`Demo` byte for byte.

    Args:
        folder: made if missing; must be empty.
        size: number of rows and columns.
        cases: number of training and test cases (``valid``).
        slices: minimum and maximum; the first case has the most, the second the fewest.
        progress: called with (volumes written, total volumes).

    Raises:
        DataError: the folder is not empty or cannot be written, or a number is out of bounds.
    """
    _require_bounds(size, cases, slices)
    try:
        if folder.exists() and any(folder.iterdir()):
            raise DataError(f"{folder} is not empty; choose another folder for the demo")
        wanted = [(part, plane, number) for part, number in _numbers(cases) for plane in PLANES]
        for part in FOLDERS:
            for plane in PLANES:
                (folder / part / plane).mkdir(parents=True, exist_ok=True)
        (folder / SYNTHETIC).write_text("Generated by ssl3d; these are not volumes of real knees.\n", encoding="utf-8")
        for done, (part, plane, number) in enumerate(wanted, start=1):
            np.save(folder / part / plane / f"{number:04d}.npy", knee(number, part, plane, size, slices))
            if progress:
                progress(done, len(wanted))
        _write_tables(folder, cases)
    except OSError as error:
        raise DataError(f"the demo cannot be written to {folder} ({error.strerror}); choose another folder") from error


def _write_tables(folder: Path, cases: tuple[int, int]) -> None:
    """Write the six tables, last, so that their absence shows that a demo is incomplete."""
    for part in FOLDERS:
        by_case = {number: labels(number, part) for kind, number in _numbers(cases) if kind == part}
        for task in FINDINGS:
            rows = "".join(f"{number:04d},{by_task[task]}\n" for number, by_task in by_case.items())
            (folder / f"{part}-{task}.csv").write_text(rows, encoding="utf-8", newline="")


def _require_bounds(size: int, cases: tuple[int, int], slices: tuple[int, int]) -> None:
    if not 16 <= size <= 1024:
        raise DataError(f"the demo cannot be made with size {size}; choose 16 to 1024")
    if min(cases) < 1 or sum(cases) > 10_000:
        raise DataError(f"the demo cannot be made with {cases} cases; choose at least one of each, 10000 in all")
    if not 4 <= slices[0] <= slices[1] <= 256:
        raise DataError(f"the demo cannot be made with {slices} slices; choose fewest and most from 4 to 256")

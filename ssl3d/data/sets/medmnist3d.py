"""MedMNIST3D: six sets of small 3D volumes, each one .npz file (Yang et al. 2023, Scientific Data 10:41)."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from ssl3d.card import Card
from ssl3d.data.reading.files import ABSENT, file_problem, is_folder
from ssl3d.data.reading.npz import ArchiveError, read_npz, read_npz_header
from ssl3d.data.reading.voxels import NpyHeader
from ssl3d.dataset import Case, Dataset, Volume
from ssl3d.errors import DataError, nearest, quoted
from ssl3d.task import Task

SPLITS: Final = ("train", "val", "test")
TASK = "label"
# Lumps cut out of chest CT, pieces of a vessel tree and of brain tissue have no canonical orientation. Organs have one,
# and a left and a right kidney or lung are different classes; of adrenal glands and ribs, the axes are not documented.
WITHOUT_ORIENTATION: Final = {"nodulemnist3d", "vesselmnist3d", "synapsemnist3d"}
MADE_FROM: Final = {  # Yang et al. 2023, MedMNIST v2: collections that the sets were cut from
    "organmnist3d": ("LiTS",),
    "nodulemnist3d": ("LIDC-IDRI", "LUNA16"),
    "fracturemnist3d": ("RibFrac",),
    "vesselmnist3d": ("IntrA",),
}


class MedMNIST3D(Dataset):
    """One set of MedMNIST3D, ``medmnist3d:adrenalmnist3d``, or at 64 voxels a side, ``medmnist3d:adrenalmnist3d_64``.

    The official ``NAME.npz`` is read from the root, or downloaded into it by the ``medmnist`` package, whose own folder
    is used if no root is given. Volumes are uint8 (1, 28, 28, 28) or (1, 64, 64, 64), without spacing; the official
    splits are kept. Patients are not published: every volume counts as one. In AdrenalMNIST3D and VesselMNIST3D voxels
    are shapes (0 or 255), not grey values.

    Args:
        root, plane, variant: see :class:`ssl3d.dataset.Dataset`.
        download: download the file if it is missing.
    """

    card: ClassVar[Card] = Card(
        "MedMNIST3D",
        "small 3D volumes, medmnist3d:NAME with NAME such as adrenalmnist3d, organmnist3d or nodulemnist3d_64",
        paper="Yang et al., MedMNIST v2: a large-scale lightweight benchmark for biomedical image classification",
        year=2023,
        link="https://medmnist.com",
        licence="CC BY 4.0",
    )
    knows_patients = False

    def __init__(
        self, root: Path | None = None, plane: str = "", variant: str | None = None, download: bool = True
    ) -> None:
        super().__init__(root, plane, variant)
        medmnist = importlib.import_module("medmnist")  # slow, and imports torch: only when used
        sets = {name: info for name, info in medmnist.INFO.items() if name.endswith("3d")}
        known = [name + size for name in sets for size in ("", "_64")]
        if variant is None:
            raise DataError(
                f"medmnist3d needs a variant, as in medmnist3d:{known[0]}; known: {', '.join(sorted(known))}"
            )
        if variant not in known:
            raise DataError(f"medmnist3d has no variant {quoted(variant)}{nearest(variant, known)}")
        if self.plane:
            raise DataError(f"medmnist3d has no planes, so plane {quoted(self.plane)} is invalid; leave --plane out")
        self._set: str = variant.removesuffix("_64")
        self._info: dict[str, Any] = sets[self._set]
        self.sound_flips = frozenset({0, 1, 2} if self._set in WITHOUT_ORIENTATION else ())
        self.aliases = MADE_FROM.get(self._set, ())
        self._side = 64 if variant.endswith("_64") else 28
        self._download = download
        self._images: tuple[str, np.ndarray] | None = None  # voxels of the split read last
        default: str | None = medmnist.info.DEFAULT_ROOT  # None if the home folder cannot be written
        if root is None and default is not None:
            self.root = Path(default)

    @property
    def name(self) -> str:
        """The plugin's name with the variant."""
        return f"medmnist3d:{self.variant}"

    @property
    def family(self) -> str:
        """Name without the size: both sizes contain the same volumes in the same order."""
        return f"medmnist3d:{self._set}"

    @property
    def tasks(self) -> tuple[Task, ...]:
        """One task; multi-class in FractureMNIST3D and OrganMNIST3D, otherwise binary."""
        classes = tuple(name for _, name in sorted(self._info["label"].items(), key=lambda item: int(item[0])))
        return (Task(name=TASK, kind="binary" if len(classes) == 2 else "multiclass", classes=classes),)

    @property
    def view_size(self) -> tuple[int, int, int]:
        """The volumes' own size."""
        return (self._side, self._side, self._side)

    def cases(self) -> list[Case]:
        """Return all volumes in the file's order; the file is downloaded first if it is missing.

        Raises:
            DataError: the file is missing and cannot be downloaded, damaged, or has an unexpected layout.
        """
        self._fetch()
        return [
            Case(f"{split}{index:04d}", split, f"{self._file.name}#{split}_images[{index}]", targets={TASK: label})
            for split in SPLITS
            for index, label in enumerate(self._labels(split))
        ]

    def read(self, case: Case) -> Volume:
        """Return one volume: (1, D, H, W), uint8."""
        if self._images is None or self._images[0] != case.split:
            self._images = None  # at size 64 a split takes hundreds of megabytes: never hold two
            require = partial(self._require_images, case.split)
            self._images = (case.split, self._read(f"{case.split}_images", require))
        index = int(case.id.removeprefix(case.split))
        return Volume(np.ascontiguousarray(self._images[1][index][None]))  # (1, D, H, W)

    @property
    def _file(self) -> Path:
        if self.root is None:
            raise DataError(f"medmnist3d needs --root, the folder of {self.variant}.npz; {self._remedy}")
        return self.root / f"{self.variant}.npz"

    @property
    def _remedy(self) -> str:
        size = "_64" if self._side == 64 else ""
        url, md5 = self._info["url" + size], self._info["MD5" + size]
        return f"download {url} and save it there as {self.variant}.npz (MD5 {md5})"

    def _fetch(self) -> None:
        """Download the file if it is missing."""
        file = self._file
        problem = file_problem(file)
        if problem is None:
            return
        if not is_folder(file.parent):
            raise DataError(f"{file.parent} is not a folder; make it, then {self._remedy}")
        if problem != ABSENT or file.is_symlink():
            raise DataError(f"{file} {problem}; remove it, then {self._remedy}")
        if not self._download:
            raise DataError(f"{file} is missing; {self._remedy}")
        maker = getattr(importlib.import_module("medmnist"), self._info["python_class"])
        try:
            maker(split="test", download=True, size=self._side, root=str(file.parent))
        except (RuntimeError, OSError) as error:
            file.unlink(missing_ok=True)  # a partial download would be taken for the file
            raise DataError(f"{file} is missing and could not be downloaded; {self._remedy}") from error

    def _labels(self, split: str) -> list[int]:
        """Return the labels of a split, checked against the shape of its images."""
        count = self._volumes(split)
        labels = self._read(f"{split}_labels", lambda header: self._require_labels(split, header, count))
        classes = len(self._info["label"])
        bad = np.flatnonzero((labels[:, 0] < 0) | (labels[:, 0] >= classes))
        if bad.size:
            raise DataError(
                f"{self._file}: {split}_labels[{bad[0]}] is {labels[bad[0], 0]} where 0 to {classes - 1} are labels; "
                f"{self._remedy}"
            )
        return [int(label) for label in labels[:, 0]]

    def _volumes(self, split: str) -> int:
        """Return the number of images in a split, from their header alone."""
        key = f"{split}_images"
        try:
            header = read_npz_header(self._file, key, f"{self._file}: {key}")
        except ArchiveError as error:
            raise self._damaged(error) from error
        self._require_images(split, header)
        return header.shape[0]

    def _require_images(self, split: str, header: NpyHeader) -> None:
        where, side, most = f"{self._file}: {split}_images", self._side, self._info["n_samples"][split]
        if header.dtype != np.uint8:
            raise DataError(f"{where} holds {header.dtype} where uint8 is official; {self._remedy}")
        if header.shape[1:] != (side, side, side) or header.shape[0] > most:
            raise DataError(
                f"{where} has shape {header.shape} where ({most}, {side}, {side}, {side}) is official; {self._remedy}"
            )

    def _require_labels(self, split: str, header: NpyHeader, count: int) -> None:
        if header.shape != (count, 1) or header.dtype.kind not in "iu":
            raise DataError(
                f"{self._file}: {split}_labels is {header.dtype} {header.shape} where ({count}, 1) integers are "
                f"official; {self._remedy}"
            )

    def _read(self, key: str, require: Callable[[NpyHeader], None]) -> np.ndarray:
        try:
            return read_npz(self._file, key, f"{self._file}: {key}", require)
        except ArchiveError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: ArchiveError) -> DataError:
        return DataError(f"{self._file} is not the official file, or damaged ({error}); remove it, then {self._remedy}")

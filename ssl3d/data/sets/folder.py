"""A folder of NIfTI or .npy volumes with a table of labels."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, ClassVar

import numpy as np

from ssl3d.card import Card
from ssl3d.data.tables import DataFaultsError, Row, read_rows
from ssl3d.data.voxels import read_npy, read_npy_header, require_voxels, scale_robustly
from ssl3d.dataset import Case, Dataset
from ssl3d.errors import DataError

SPLITS = ("train", "val", "test")
COARSER = 1.1  # spacing by which one axis must exceed the others to count as the slices
ENDINGS = (".nii", ".nii.gz", ".npy")
HELP = "expected is a table with the header path,LABEL,split (further LABELs are further tasks)"


class Folder(Dataset):
    """Volumes in ``root``, listed in ``labels.csv`` there (or in the table that ``folder:TABLE.csv`` names).

    The header is ``path,LABEL[,LABEL2...],split``: a path inside the root to ``.nii``, ``.nii.gz`` or ``.npy``; class
    numbers 0, 1, ..., an empty field where the label is unknown; ``train``, ``test`` or ``val``. Files that the table
    does not list are ignored, so that several tables can choose from one folder.

    ``.npy`` holds (D, H, W). NIfTI is brought to canonical axes (x to the right, y to the front, z up); D is the axis
    with the coarsest spacing, z where none is more than 10% coarser than the others; H and W are the two others, the
    later one first: (z, y, x), (y, z, x) or (x, z, y). Any real type of number is taken; each volume is scaled by its
    own 0.5 and 99.5 percentiles to [0, 1], float16.
    """

    card: ClassVar[Card] = Card(
        "Folder", "NIfTI or .npy volumes of your own under --root, with labels.csv: path,LABEL,split"
    )

    def __init__(self, root: Path | None = None, plane: str = "", variant: str | None = None) -> None:
        super().__init__(root, plane, variant)
        if self.plane:
            raise DataError(f"folder has no planes, so {self.plane!r} is none; leave --plane out")
        if root is None:
            raise DataError(f"folder needs --root, the folder of your volumes; {HELP}")
        if variant is not None and _escapes(variant):
            raise DataError(f"the table {variant!r} lies outside the root {root}; name a table inside it")
        self._root = root
        self._table = variant or "labels.csv"

    @property
    def name(self) -> str:
        """The folder's own name, and the table's where it was chosen."""
        return f"folder {self._root.resolve().name}" + (f":{self.variant}" if self.variant else "")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The columns between path and split."""
        return tuple(column for column in self._header.fields if column not in {"path", "split"})

    @property
    def view_size(self) -> tuple[int, int, int]:
        """Median size of the volumes, down to a multiple of 4, within 8 to 112."""
        sizes = np.array([shape for shape, _ in self._geometry])  # (cases, 3)
        D, H, W = (min(max(int(side) // 4 * 4, 8), 112) for side in np.median(sizes, axis=0))
        return D, H, W

    @property
    def left_right(self) -> int | None:  # type: ignore[override]  # known from the headers, not from the class
        """The axis that NIfTI headers call x, if they agree; None if they do not, or there are none."""
        axes = {axis for _, axis in self._geometry}
        return axes.pop() if len(axes) == 1 else None

    def cases(self) -> list[Case]:
        """Return the cases in the order of the table; an id is the path as the table has it.

        Raises:
            DataError: the root or table is missing, the header wrong, or (:class:`DataFaultsError`) rows have faults.
        """
        faults: list[str] = []
        seen: dict[str, int] = {}
        cases = []
        columns = self._header.fields
        for row in self._rows[1:]:
            try:
                case = self._case(columns, row, seen)
            except DataError as error:
                faults.append(f"{self._table} row {row.number}: {error}")
            else:
                seen[case.id] = row.number
                cases.append(case)
        if faults:
            raise DataFaultsError(faults)
        if not cases:
            raise DataError(f"{self._root / self._table} lists no volumes; {HELP}")
        return cases

    def read(self, case: Case) -> np.ndarray:
        """Return one volume: (1, D, H, W), float16 in [0, 1].

        Raises:
            DataError: the file is damaged, of a wrong rank or type, empty, constant, or holds NaN or infinity.
        """
        where = self._where(case)
        path = self._root / case.id
        volume = read_npy(path, where) if path.suffix == ".npy" else _read_nifti(path, where)
        volume = _require_3d(volume, where)
        if volume.dtype.kind not in "biuf":
            raise DataError(f"{where} holds {volume.dtype}; real numbers are expected; save it as such")
        require_voxels(volume, where)
        return scale_robustly(volume)[None]  # (1, D, H, W)

    @cached_property
    def _rows(self) -> list[Row]:
        path = self._root / self._table
        if not self._root.is_dir():
            raise DataError(f"{self._root} is not a folder; --root is the folder of your volumes; {HELP}")
        if not path.is_file():
            raise DataError(f"{path} is missing; {HELP}")
        return read_rows(path)

    @cached_property
    def _header(self) -> Row:
        if not self._rows:
            raise DataError(f"{self._root / self._table} is empty; {HELP}")
        header = self._rows[0]
        columns = header.fields
        if not {"path", "split"} <= set(columns) or len(columns) < 3 or "" in columns:
            raise DataError(f"{self._table} row {header.number}: the header is {','.join(columns)!r}; {HELP}")
        if len(set(columns)) < len(columns):
            raise DataError(
                f"{self._table} row {header.number}: the header names a column twice; rename one of the two"
            )
        return header

    @cached_property
    def _geometry(self) -> list[tuple[tuple[int, ...], int | None]]:
        """Size (D, H, W) and left-right axis of each volume, from its file's header."""
        return [_geometry(self._root / case.id, self._where(case)) for case in self.cases()]

    def _where(self, case: Case) -> str:
        return f"{case.id} ({self._table} row {self._row_numbers[case.id]})"

    @cached_property
    def _row_numbers(self) -> dict[str, int]:
        column = self._header.fields.index("path")
        return {str(PurePosixPath(row.fields[column])): row.number for row in self._rows[1:]}

    def _case(self, columns: tuple[str, ...], row: Row, seen: dict[str, int]) -> Case:
        """Turn a row into a case."""
        if len(row.fields) != len(columns):
            raise DataError(f"{len(row.fields)} fields where the header has {len(columns)}; mend it")
        values = dict(zip(columns, row.fields, strict=True))
        path = self._path(values["path"])
        if path in seen:
            raise DataError(f"{path} stands in row {seen[path]} already; remove one of the two")
        if values["split"] not in SPLITS:
            raise DataError(f"split {values['split']!r} of {path} is none of {', '.join(SPLITS)}; mend it")
        labels = {task: _label(task, values[task], path) for task in self.tasks if values[task]}
        return Case(path, values["split"], path, labels)

    def _path(self, text: str) -> str:
        """Return a path of the table in one spelling, checked."""
        if not text or _escapes(text):
            raise DataError(f"path {text!r} does not lie inside the root; write it relative to the root, without ..")
        path = str(PurePosixPath(text))
        if not path.endswith(ENDINGS):
            raise DataError(f"{path} is none of {', '.join(ENDINGS)}; convert it")
        if not (self._root / path).is_file():
            raise DataError(f"{path} is absent from {self._root}; restore it or remove the row")
        return path


def _escapes(text: str) -> bool:
    """Say whether a path could lead out of the folder that it is relative to, on any system."""
    windows = PureWindowsPath(text)
    return text.startswith("/") or bool(windows.anchor) or ".." in windows.parts


def _label(task: str, text: str, path: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise DataError(f"{task} = {text!r} of {path} is no class number 0, 1, ...; mend it or leave it empty")
    return int(text)


def _require_3d(volume: np.ndarray, where: str) -> np.ndarray:
    """Drop trailing axes of length 1 beyond the third, which NIfTI writers like to add."""
    return volume.reshape(_require_rank(volume.shape, where))


def _require_rank(shape: Iterable[int], where: str) -> tuple[int, ...]:
    size = tuple(int(side) for side in shape)
    kept = size[:3] if all(side == 1 for side in size[3:]) else size
    if len(kept) != 3:
        raise DataError(f"{where} has shape {size}; one volume with three axes is expected; split or convert it")
    return kept


def _open_nifti(path: Path, where: str) -> tuple[Any, tuple[int, ...], tuple[int, int, int]]:
    """Open a NIfTI image without reading voxels.

    Returns:
        The image; its size along canonical x, y, z; and the order of these that puts the slices first.
    """
    nibabel: Any = importlib.import_module("nibabel")  # a quarter of a second, only for those who have NIfTI

    try:
        image = nibabel.load(path)
        shape = _require_rank(image.shape, where)
        canonical = nibabel.io_orientation(image.affine)[:3, 0]  # canonical axis of each axis of the file
        axes = [int(axis) for axis in np.argsort(canonical)]  # axis of the file behind x, y, z
        spacing = [float(image.header.get_zooms()[axis]) for axis in axes]
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{where} cannot be read as NIfTI ({_first_line(error)}); restore it") from error
    if not np.isfinite(canonical).all():
        raise DataError(f"{where} has an affine that leaves out an axis; mend its header")
    return image, tuple(shape[axis] for axis in axes), _slices_first(*spacing)


def _read_nifti(path: Path, where: str) -> np.ndarray:
    """Return the voxels (D, H, W) of a NIfTI file, scaled as its header says."""
    nibabel: Any = importlib.import_module("nibabel")

    image, _, order = _open_nifti(path, where)
    try:
        voxels = np.asanyarray(nibabel.as_closest_canonical(image).dataobj)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{where} is truncated or damaged ({_first_line(error)}); restore it") from error
    return _require_3d(voxels, where).transpose(order)


def _slices_first(x: float, y: float, z: float) -> tuple[int, int, int]:
    """Return the order of the axes that puts the slices first, from the spacing along each."""
    if x > COARSER * max(y, z):
        return (0, 2, 1)
    if y > COARSER * max(x, z):
        return (1, 2, 0)
    return (2, 1, 0)


def _geometry(path: Path, where: str) -> tuple[tuple[int, ...], int | None]:
    if path.suffix == ".npy":
        return _require_rank(read_npy_header(path, where).shape, where), None
    _, size, order = _open_nifti(path, where)
    return tuple(size[axis] for axis in order), order.index(0)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]

"""A folder of NIfTI or .npy volumes with a table of labels."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import ClassVar

import numpy as np

from ssl3d.card import Card
from ssl3d.data.faults import DataFaultsError, Fault
from ssl3d.data.reading.csv_table import Row, read_rows
from ssl3d.data.reading.files import ABSENT, file_problem, is_folder
from ssl3d.data.reading.header import HELP, Header, parse_header
from ssl3d.data.reading.labels import Labels, read_labels
from ssl3d.data.reading.nifti import Geometry, read_geometry, read_nifti
from ssl3d.data.reading.nifti_header import require_3d
from ssl3d.data.reading.voxels import read_npy, read_npy_header, require_voxels, scale_robustly
from ssl3d.dataset import Case, Dataset, Volume
from ssl3d.errors import DataError, hidden, printable, quoted, shortened
from ssl3d.task import Targets, Task

SPLITS = ("train", "val", "test", "unlabelled")
SYNONYMS = {"pretrain": "unlabelled", "unlabeled": "unlabelled"}
ENDINGS = (".nii", ".nii.gz", ".npy")
DELIMITERS = ",;\t"
LARGEST_TYPE = 8  # bytes of a number; larger ones are rounded to double precision


class Folder(Dataset):
    """Volumes in ``root``, listed in its ``labels.csv`` (or in the table named by ``folder:TABLE.csv``).

    The table is separated by commas, semicolons or tabs. Its columns:

    - ``path``: of a ``.nii``, ``.nii.gz`` or ``.npy`` file inside the root. Files not listed in the table are ignored,
      so that several tables can select from one folder.
    - ``split``: ``train``, ``test``, ``val``, or ``unlabelled`` (or ``pretrain``) for volumes used only to train
      encoders. With ``--folds`` the column may be omitted.
    - ``patient``, ``exam`` (optional): cases of one patient are never separated.
    - ``age``, ``sex``, ``site`` (optional): not labels, unless the header gives them a kind.
    - every other column is a label. An empty field, NA, N/A, NaN or null means unknown. The header may give a kind:

      ========================================  ====================================================================
      ``tear``                                  two values: binary; more: multi-class. Whole numbers are ordered by
                                                size, words alphabetically
      ``tear:binary(no<yes)``                   the classes, from class 0 upwards; ``multiclass`` likewise
      ``grade:ordinal(mild<moderate<severe)``   ordered classes; numbers need no list
      ``volume:regression(mm3)``                numbers, with or without a unit
      ``edema:multilabel(finding)``             0 or 1, together with the other labels of the task "finding"
      ========================================  ====================================================================

    ``.npy`` holds (D, H, W). NIfTI is brought to canonical axes with slices first, see
    :func:`ssl3d.data.reading.nifti.read_nifti`. Any real dtype is accepted; each volume's 0.5 and 99.5 percentiles are
    scaled to [0, 1], float16. A volume has at most 2^29 voxels, or the number in the environment variable
    ``SSL3D_LARGEST_VOLUME``. Nothing says which mirror images are sound, so views are flipped only if
    ``augment.flip`` asks for it. Links that lead outside the root are followed only if ``SSL3D_FOLLOW_LINKS=1`` is set.
    """

    card: ClassVar[Card] = Card(
        "Folder", "NIfTI or .npy volumes of your own under --root, with labels.csv: path,LABEL,split"
    )

    def __init__(self, root: Path | None = None, plane: str = "", variant: str | None = None) -> None:
        super().__init__(root, plane, variant)
        if self.plane:
            raise DataError(f"folder has no planes, so plane {quoted(self.plane)} is invalid; leave --plane out")
        if root is None:
            raise DataError(f"folder needs --root, the folder of your volumes; {HELP}")
        if variant is not None and _escapes(variant):
            raise DataError(f"the table {quoted(variant)} lies outside the root {root}; name a table inside it")
        if variant is not None and hidden(variant) is not None:
            raise DataError(f"the table {quoted(variant)} has an invisible character in its name; rename it")
        self._root = root
        self._table = variant or "labels.csv"

    @property
    def name(self) -> str:
        """Name of the folder, and of the table if one was chosen."""
        return self.family + (f":{shortened(self.variant)}" if self.variant else "")

    @property
    def family(self) -> str:
        """Name of the folder: all its tables list the same patients."""
        try:
            root = self._root.resolve()
        except (OSError, ValueError, RuntimeError):  # there is no folder, as the cases report
            root = self._root
        return f"folder {printable(root.name)}"

    @property
    def tasks(self) -> tuple[Task, ...]:
        """One task per column of labels; the columns of a multi-label task form one."""
        if self._labels.faults:
            raise DataFaultsError(self._labels.faults)
        return tuple(self._labels.tasks)

    @property
    def knows_patients(self) -> bool:  # type: ignore[override]  # from the table, not from the class
        """Whether the table has a column "patient"."""
        return "patient" in self._header.places

    @property
    def view_size(self) -> tuple[int, int, int]:
        """Median size of the volumes, rounded down to a multiple of 4, within 8 to 112."""
        sizes = np.array([geometry.shape for geometry in self._geometry])  # (cases, 3)
        D, H, W = (min(max(int(side) // 4 * 4, 8), 112) for side in np.median(sizes, axis=0))
        return D, H, W

    @property
    def left_right(self) -> int | None:  # type: ignore[override]  # from the files' headers, not from the class
        """The axis that NIfTI headers call x; None if they disagree or there are no headers."""
        axes = {geometry.left_right for geometry in self._geometry}
        return axes.pop() if len(axes) == 1 else None

    def cases(self) -> list[Case]:
        """Return the cases in the order of the table; an id is the path as written there.

        Raises:
            DataError: the root or table is missing, or the header is invalid.
            DataFaultsError: columns or rows have faults.
        """
        faults: list[Fault] = []
        row_faults: dict[int, list[str]] = {}
        for index, sentence in self._labels.row_faults:
            row_faults.setdefault(index, []).append(sentence)
        cases: dict[str, tuple[Case, int]] = {}
        exams: dict[str, str] = {}
        for index, row in enumerate(self._rows):
            try:
                case = self._case(row, self._labels.targets[index])
                _require_new(case, cases, exams)
            except DataError as error:
                faults.append(self._fault(row, str(error)))
            else:
                cases[case.id] = case, row.number
            faults += [self._fault(row, sentence) for sentence in row_faults.get(index, [])]
        faults += self._labels.faults  # last, because a wrong row may be their cause
        if faults:
            raise DataFaultsError(faults)
        if not cases:
            raise DataError(f"{self._root / self._table} lists no volumes; {HELP}")
        return [case for case, _ in cases.values()]

    def read(self, case: Case) -> Volume:
        """Return one volume: (1, D, H, W), float16 in [0, 1].

        Raises:
            DataError: the file is damaged, has the wrong rank or dtype, is empty or constant, or contains NaN or
                infinity.
        """
        where = self._where(case)
        path = self._root / case.id
        spacing = None
        if _is_npy(path):
            array = read_npy(path, where)
            voxels = array.reshape(require_3d(array.shape, where))
        else:
            voxels, geometry = read_nifti(path, where)
            spacing = geometry.spacing
        if voxels.dtype.itemsize > LARGEST_TYPE:
            with np.errstate(over="ignore"):  # infinity is checked next
                voxels = voxels.astype(np.float64)
        require_voxels(voxels, where)
        return Volume(scale_robustly(voxels)[None], spacing)  # (1, D, H, W)

    @cached_property
    def _table_rows(self) -> list[Row]:
        path = self._root / self._table
        if not is_folder(self._root):
            raise DataError(f"{_shown(self._root)} is not a folder; --root is the folder of your volumes; {HELP}")
        problem = file_problem(path, self._root)
        if problem is not None:
            raise DataError(f"{_shown(path)} {problem}; {HELP}")
        rows = read_rows(path, DELIMITERS)
        if not rows:
            raise DataError(f"{path} is empty; {HELP}")
        return rows

    @cached_property
    def _header(self) -> Header:
        return parse_header(self._table, self._table_rows[0])

    @property
    def _rows(self) -> list[Row]:
        return self._table_rows[1:]

    @cached_property
    def _labels(self) -> Labels:
        """Tasks and targets; rows of the wrong length have none, and are reported by :meth:`cases`."""
        width = self._header.width
        fields = [row.fields if len(row.fields) == width else ("",) * width for row in self._rows]
        columns = self._header.labels if fields else ()
        return read_labels(columns, fields, f"{self._table} row {self._table_rows[0].number}")

    @cached_property
    def _geometry(self) -> list[Geometry]:
        """The geometry of each volume from its file's header."""
        return [_geometry(self._root / case.id, self._where(case)) for case in self.cases()]

    def _where(self, case: Case) -> str:
        return f"{case.id} ({self._table} row {self._row_numbers[case.id]})"

    @cached_property
    def _row_numbers(self) -> dict[str, int]:
        place = self._header.places["path"]
        return {self._relative(row.fields[place]): row.number for row in self._rows}

    def _fault(self, row: Row, sentence: str) -> Fault:
        place = self._header.places["path"]
        path = f" ({shortened(row.fields[place])})" if place < len(row.fields) else ""
        return Fault(f"{self._table} row {row.number}{path}", sentence)

    def _case(self, row: Row, targets: Targets) -> Case:
        """Turn a row into a case.

        Raises:
            DataError: a field is missing or wrong; the message does not name the row.
        """
        places = self._header.places
        if len(row.fields) != self._header.width:
            raise DataError(
                f"the row has {len(row.fields)} fields where the header has {self._header.width}; correct it"
            )
        named = {name: row.fields[place] for name, place in places.items()}
        path = self._path(named["path"])
        split = named.get("split", "train" if targets else "unlabelled").lower()
        split = SYNONYMS.get(split, split)
        if split not in SPLITS:
            raise DataError(f"split {quoted(named['split'])} is not one of {', '.join(SPLITS)}; correct it")
        exam = named.get("exam", "")
        return Case(path, split, path, named.get("patient", "") or exam, exam, targets)

    def _path(self, text: str) -> str:
        """Return a path of the table in normalised form, checked."""
        path = self._relative(text)
        if not text or _escapes(path):
            raise DataError(
                f"the path {quoted(text)} is not inside the root; write it relative to the root, without .."
            )
        if not path.lower().endswith(ENDINGS):
            raise DataError(f"the file is not {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}; convert it")
        problem = file_problem(self._root / path, self._root)
        if problem is not None:
            place = f" from {_shown(self._root)}" if problem == ABSENT else ""
            raise DataError(f"the file {problem}{place}; restore it or remove the row")
        return path

    def _relative(self, text: str) -> str:
        """Return a path in normalised form, relative to the root if it lies inside."""
        path = PurePosixPath(text)
        for root in (self._root, self._root.resolve()) if path.is_absolute() else ():
            if path.is_relative_to(root):
                return str(path.relative_to(root))
        return str(path)


def _require_new(case: Case, cases: dict[str, tuple[Case, int]], exams: dict[str, str]) -> None:
    """Check that a path is listed only once, and that an exam belongs to one patient."""
    if case.id in cases:
        raise DataError(f"the path is listed in row {cases[case.id][1]} already; remove one of the two")
    patient = exams.setdefault(case.exam, case.patient)
    if patient != case.patient:
        raise DataError(
            f"exam {quoted(case.exam)} is of patient {quoted(patient)} in a row before; correct one of the two"
        )


def _escapes(text: str) -> bool:
    """Return whether a path could lead outside the folder it is relative to, on any system."""
    windows = PureWindowsPath(text)
    return text.startswith("/") or bool(windows.anchor) or ".." in windows.parts


def _shown(path: Path) -> str:
    """Return a path for a message."""
    return shortened(str(path), 200)


def _is_npy(path: Path) -> bool:
    return path.suffix.lower() == ".npy"


def _geometry(path: Path, where: str) -> Geometry:
    if _is_npy(path):
        return Geometry(require_3d(read_npy_header(path, where).shape, where))
    return read_geometry(path, where)

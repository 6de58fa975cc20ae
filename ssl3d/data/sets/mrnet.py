"""MRNet, the knee MRI data set of Stanford, as distributed (Bien et al. 2018, PLOS Medicine 15(11), e1002699)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from ssl3d.card import Card
from ssl3d.data.faults import DataFaultsError, Fault
from ssl3d.data.reading.csv_table import Row, read_rows
from ssl3d.data.reading.files import ABSENT, file_problem, is_folder
from ssl3d.data.reading.voxels import read_npy, read_npy_header, require_voxels
from ssl3d.dataset import Case, Dataset, Volume
from ssl3d.errors import DataError, nearest, printable, quoted, shortened
from ssl3d.task import Task

FINDINGS = ("acl", "meniscus", "abnormal")  # names of the tasks, and of their tables
TASKS = tuple(Task(name=name, kind="binary", classes=("no", "yes")) for name in FINDINGS)
SYNTHETIC = "SYNTHETIC.txt"  # beside files that `ssl3d data demo` generated
PLANES = ("sagittal", "coronal", "axial")
ID = "[0-9]{4}"  # of an exam
NO_LABEL = -1  # for a faulty row, whose fault is raised
FOLDERS = {"train": "train", "valid": "test"}  # the official validation exams are the test set, scored once
LAYOUT = (
    "expected is MRNet-v1.0 with {train,valid}/{sagittal,coronal,axial}/0000.npy and "
    "{train,valid}-{acl,meniscus,abnormal}.csv, which must be requested from Stanford "
    "(https://stanfordmlgroup.github.io/competitions/mrnet): nothing is downloaded"
)

Table = dict[str, tuple[int, int]]  # case -> (label, row)


class MRNet(Dataset):
    """Knee MRI exams, three planes, three binary tasks. One plane is one data set.

    Volumes are uint8 (1, S, 256, 256), ragged in S, without spacing; copies resized in plane are accepted if all have
    the same size. The folder ``valid`` is the split "test". Cases are sorted by their four-digit id, because the tables
    of ``valid`` are ordered by label. Patients are not published: every exam counts as one. Dot files and files other
    than .npy are ignored.
    """

    card: ClassVar[Card] = Card(
        "MRNet",
        "knee MRI, three planes; tasks acl, meniscus, abnormal; a local copy is needed (--root)",
        paper="Bien et al., Deep-learning-assisted diagnosis for knee magnetic resonance imaging",
        year=2018,
        link="https://stanfordmlgroup.github.io/competitions/mrnet",
        licence="Stanford research use agreement: no redistribution",
    )
    planes: ClassVar[tuple[str, ...]] = PLANES
    knows_patients = False

    def __init__(self, root: Path | None = None, plane: str = "", variant: str | None = None) -> None:
        super().__init__(root, plane, variant)
        if variant is not None:
            raise DataError(f"mrnet has no variants, so 'mrnet:{variant}' is invalid; choose a plane with --plane")
        if self.plane not in PLANES:
            raise DataError(f"mrnet has no plane {self.plane!r}{nearest(self.plane, PLANES)}")
        # Sagittal slices run from one side of the knee to the other; in other planes the columns do.
        self.left_right = 0 if self.plane == "sagittal" else 2
        # A mirrored left knee is a right knee: the set has both, and no label names a side (its authors flip, too). A
        # knee upside down, or with the kneecap behind, does not exist.
        self.sound_flips = frozenset({self.left_right})
        self.synthetic = root is not None and file_problem(root / SYNTHETIC) is None

    @property
    def name(self) -> str:
        """Name with the plane, marked if the files are generated."""
        return f"mrnet {'(synthetic) ' if self.synthetic else ''}{self.plane}"

    @property
    def tasks(self) -> tuple[Task, ...]:
        """ACL tear, meniscal tear, any abnormality."""
        return TASKS

    @property
    def view_size(self) -> tuple[int, int, int]:
        """The clip size of BYOLMed3D, at half its in-plane size."""
        return (16, 112, 112)

    def cases(self) -> list[Case]:
        """Return all exams, sorted by id within train, then test.

        Raises:
            DataError: a folder or table is missing.
            DataFaultsError: tables and volumes have faults.
        """
        root = self._folders()
        faults: list[Fault] = []
        tables = {folder: self._tables(root, folder, faults) for folder in FOLDERS}
        faults += _in_both(tables)
        for folder, by_task in tables.items():
            faults += _task_mismatches(folder, by_task) + self._volume_mismatches(root, folder, by_task)
        if faults:
            raise DataFaultsError(faults)
        return [self._case(folder, id, tables[folder]) for folder in FOLDERS for id in sorted(tables[folder]["acl"])]

    def read(self, case: Case) -> Volume:
        """Return one exam: (1, S, H, W), uint8.

        Raises:
            DataError: the file is not an intact uint8 volume (S, H, W), or its in-plane size differs from the others'.
        """
        path, where = self._root / case.source, case.source
        volume = read_npy(path, where)
        if volume.ndim != 3:
            raise DataError(f"{where} has shape {volume.shape}; (slices, rows, columns) is expected; restore it")
        if volume.dtype != np.uint8:
            raise DataError(f"{where} holds {volume.dtype}; MRNet's volumes are uint8; restore it")
        require_voxels(volume, where)
        if self._in_plane and volume.shape[1:] != self._in_plane:
            raise DataError(
                f"{where} is {volume.shape[1:]} in plane where most volumes are {self._in_plane}; "
                "bring all volumes to one size"
            )
        return Volume(np.ascontiguousarray(volume[None]))  # (1, S, H, W)

    @property
    def _root(self) -> Path:
        if self.root is None:
            raise DataError(f"mrnet needs --root, the folder of its files; {LAYOUT}")
        return self.root

    @cached_property
    def _in_plane(self) -> tuple[int, ...]:
        """In-plane size (rows, columns) of most training volumes, from their headers."""
        found = Counter(self._sizes()).most_common(1)
        return found[0][0] if found else ()

    def _sizes(self) -> Iterator[tuple[int, ...]]:
        """Yield the in-plane size of every training volume with a readable header; ``read`` finds faults."""
        folder = self._root / "train" / self.plane
        for name in sorted(_npy_names(folder)):
            with suppress(DataError):
                shape = read_npy_header(folder / name, name).shape
                if len(shape) == 3:
                    yield shape[1:]

    def _folders(self) -> Path:
        """Return the root after checking its folders."""
        root = self._root
        if not is_folder(root):
            raise DataError(f"{shortened(str(root), 200)} is not a folder; {LAYOUT}")
        for folder in FOLDERS:
            for part in (root / folder, root / folder / self.plane):
                if not is_folder(part):
                    inner = root / "MRNet-v1.0"
                    hint = f"did you mean --root {inner}?" if is_folder(inner) else LAYOUT
                    raise DataError(f"{part} is missing; {hint}")
        return root

    def _tables(self, root: Path, folder: str, faults: list[Fault]) -> dict[str, Table]:
        """Return the tables of a folder by task; faults of rows are added to ``faults``."""
        by_task = {}
        for task in FINDINGS:
            path = root / f"{folder}-{task}.csv"
            problem = file_problem(path)
            if problem is not None:
                raise DataError(f"{path} {'is missing' if problem == ABSENT else problem}; {LAYOUT}")
            by_task[task] = _table(path.name, read_rows(path), faults)
        return by_task

    def _volume_mismatches(self, root: Path, folder: str, by_task: dict[str, Table]) -> list[Fault]:
        """Compare the tables with the existing volumes."""
        present = {name.removesuffix(".npy") for name in _npy_names(root / folder / self.plane)}
        rows = {id: (task, row) for task in reversed(FINDINGS) for id, (_, row) in by_task[task].items()}
        absent = [
            Fault(
                f"{folder}-{task}.csv row {row} ({folder}/{self.plane}/{id}.npy)",
                "the volume is absent; restore it or remove the row",
            )
            for id, (task, row) in sorted(rows.items())
            if id not in present
        ]
        unlisted = [
            Fault(
                printable(f"{folder}/{self.plane}/{id}.npy"),
                f"no {folder}-*.csv lists it; add its rows or remove the file",
            )
            for id in sorted(present - rows.keys())
        ]
        return absent + unlisted

    def _case(self, folder: str, id: str, by_task: dict[str, Table]) -> Case:
        targets = {task: by_task[task][id][0] for task in FINDINGS}
        return Case(id, FOLDERS[folder], f"{folder}/{self.plane}/{id}.npy", targets=targets)


def _npy_names(folder: Path) -> list[str]:
    """Names of volumes; ``._0000.npy`` and other dot files are leftovers of file managers."""
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise DataError(f"{folder} cannot be opened ({error.strerror}); allow it to be read") from error
    return [name for name in names if name.endswith(".npy") and not name.startswith(".")]


def _table(name: str, rows: list[Row], faults: list[Fault]) -> Table:
    """Return the valid rows of a table, and add a fault for each other row."""
    table: Table = {}
    if not rows:
        faults.append(Fault(name, "the table is empty; restore it"))
    for row in rows:
        problem = _problem(row, row is rows[0])
        if problem is None and row.fields[0] in table:
            problem = f"case {row.fields[0]} is listed in row {table[row.fields[0]][1]} already; remove one of the two"
        if problem is None:
            table[row.fields[0]] = (int(row.fields[1]), row.number)
        else:
            faults.append(Fault(f"{name} row {row.number}", problem))
            if row.fields[0] not in table and re.fullmatch(ID, row.fields[0]):
                table[row.fields[0]] = (NO_LABEL, row.number)  # listed, so that the row gives no second fault
    return table


def _problem(row: Row, first: bool) -> str | None:
    """Return what is wrong with a row on its own."""
    if len(row.fields) != 2:
        return f"the row has {len(row.fields)} fields; case and label are expected, as in 0000,1; correct it"
    id, label = row.fields
    if first and not any(character.isdigit() for character in id):
        return f"{quoted(f'{id},{label}')} is a header, and MRNet's tables have none; remove it"
    if not re.fullmatch(ID, id):
        return f"case {quoted(id)} is not four digits, as in 0000 (spreadsheets drop the zeros); restore the table"
    if label not in {"0", "1"}:
        return f"label {quoted(label)} is neither 0 nor 1; correct it"
    return None


def _task_mismatches(folder: str, by_task: dict[str, Table]) -> list[Fault]:
    """Find cases that are in the table of one task but not in another's."""
    return [
        Fault(
            f"{folder}-{task}.csv row {row} (case {id})",
            f"the case is missing from {folder}-{other}.csv; add it there or remove the row",
        )
        for task in FINDINGS
        for other in FINDINGS
        for id, (_, row) in by_task[task].items()
        if id not in by_task[other]
    ]


def _in_both(tables: dict[str, dict[str, Table]]) -> list[Fault]:
    """Find cases that are in both train and valid, which would train on the test set."""
    return [
        Fault(
            f"valid-acl.csv row {row}",
            f"case {id} is also in train-acl.csv row {tables['train']['acl'][id][1]}; remove one of the two",
        )
        for id, (_, row) in tables["valid"]["acl"].items()
        if id in tables["train"]["acl"]
    ]

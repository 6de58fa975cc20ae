"""All faults and noteworthy properties of a data set, collected for ``ssl3d data check``."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ssl3d.data.check_cases import SPLITS, checked_cases
from ssl3d.data.faults import LISTED, DataFaultsError
from ssl3d.data.folds import require_folds
from ssl3d.data.packable import require_packable
from ssl3d.dataset import Case, Dataset
from ssl3d.errors import DataError, printable
from ssl3d.task import Task

SHALLOW = 0.25  # of the median number of slices; a volume with fewer is probably incomplete


@dataclass(frozen=True)
class Checked:
    """The findings on a data set.

    Attributes:
        faults: faults that must be corrected before the data set can be used, one sentence each.
        notes: observations worth a look, one sentence each.
        summary: contents of the data set, line by line; empty if its tables have faults.
    """

    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    summary: tuple[str, ...] = ()


def check(dataset: Dataset, folds: int | None = None, progress: Callable[[int, int], None] | None = None) -> Checked:
    """Check all cases and return all faults and notes.

    Volumes are read only if the tables have no faults, since the tables list the volumes.

    Args:
        dataset: data set to check.
        folds: number of outer folds, used instead of the data set's own split.
        progress: called with (volumes read, total volumes).
    """
    try:
        cases = checked_cases(dataset, () if folds else SPLITS)
        for task in dataset.tasks if folds else ():
            require_folds(dataset.name, task, cases, folds or 0, cases)
    except DataFaultsError as error:
        return Checked(error.faults)
    except DataError as error:
        return Checked((printable(str(error)),))
    faults: list[str] = []
    read: list[_Read] = []
    for done, case in enumerate(cases, start=1):
        try:
            voxels = require_packable(dataset.read(case), case)
            read.append(_Read(case, voxels.shape, voxels.dtype.name, hashlib.sha256(voxels.data).hexdigest()))
        except DataError as error:
            faults.append(str(error))
        except MemoryError:
            faults.append(f"{case.source} does not fit in memory; make the volume smaller, or use a larger machine")
        if progress:
            progress(done, len(cases))
    faults = _fold_alike(faults)
    faults += _types(read)
    notes = [*_class_notes(dataset.tasks, cases, folds), *_duplicates(read), *_shallow(read)]
    return Checked(*(tuple(printable(line) for line in lines) for lines in (faults, notes, _summary(dataset, cases))))


@dataclass(frozen=True)
class _Read:
    """The properties kept of a volume that was read."""

    case: Case
    shape: tuple[int, ...]
    dtype: str
    sha256: str


def _fold_alike(faults: Sequence[str]) -> list[str]:
    """Fold more than three faults into one line if they differ only in file names and numbers."""
    groups: dict[str, list[str]] = {}
    for fault in faults:
        groups.setdefault(re.sub(r"\S*[0-9.]\S*", "", fault), []).append(fault)
    lines: list[str] = []
    for found in groups.values():
        more = len(found) - 1
        lines += [f"{found[0]} (and {more} more volumes like it)"] if len(found) > LISTED else found
    return lines


def _types(read: Sequence[_Read]) -> Iterator[str]:
    counts = Counter(volume.dtype for volume in read)
    if len(counts) > 1:
        rare = min(counts, key=lambda dtype: counts[dtype])
        first = next(volume.case.source for volume in read if volume.dtype == rare)
        yield f"{first} was read as {rare}, others as {max(counts, key=lambda dtype: counts[dtype])}; use one type"


def _class_notes(tasks: Sequence[Task], cases: Sequence[Case], folds: int | None) -> Iterator[str]:
    """Find classes without a training case and test sets of one class, if the data set's own split is used."""
    for task in (task for task in tasks if task.categorical and not folds):
        train, test = (_classes(task, cases, split) for split in SPLITS)
        for name in task.classes:
            if name not in train:
                yield f"class {name!r} of {task.name!r} has no training case; add some, or leave the class out"
        if len(test) < 2:
            held = f"only cases of class {next(iter(test))!r}" if test else "no case with a target"
            yield f"the test split has {held} of {task.name!r}, so that no AUC can be computed; add others"


def _classes(task: Task, cases: Sequence[Case], split: str) -> Counter[str]:
    """Count the classes of a categorical task in a split."""
    targets = [case.targets[task.name] for case in cases if case.split == split and task.name in case.targets]
    return Counter(task.classes[target] for target in targets if isinstance(target, int))


def _duplicates(read: Sequence[_Read]) -> Iterator[str]:
    """Find volumes with the same voxels in different patients or splits."""
    groups: dict[tuple[object, ...], list[Case]] = {}
    for volume in read:
        groups.setdefault((volume.shape, volume.dtype, volume.sha256), []).append(volume.case)
    for cases in groups.values():
        splits = {case.split for case in cases}
        if len({(case.split, case.patient) for case in cases}) < 2:
            continue
        names = ", ".join(f"{case.id} ({case.split})" for case in cases[:4]) + (", ..." if len(cases) > 4 else "")
        leak = "no encoder is pretrained on them, but scores are too high: " if splits >= set(SPLITS) else ""
        yield f"{len(cases)} volumes have the same voxels: {names}; {leak}keep one of them"


def _shallow(read: Sequence[_Read]) -> Iterator[str]:
    """Find volumes with far fewer slices than the others."""
    if not read:
        return
    median = float(np.median([volume.shape[1] for volume in read]))
    for volume in read:
        if volume.shape[1] < SHALLOW * median:
            yield (
                f"{volume.case.source} has {volume.shape[1]} slices where the median is {median:g}; check that it is "
                "complete"
            )


def _summary(dataset: Dataset, cases: Sequence[Case]) -> Iterator[str]:
    yield f"{dataset.name}: {len(cases)} volumes ({_counts(Counter(case.split for case in cases))})"
    if dataset.knows_patients:
        patients = dict.fromkeys((case.split, case.patient) for case in cases)
        number = len({case.patient for case in cases})
        yield f"patients: {number} ({_counts(Counter(split for split, _ in patients))})"
    else:
        yield "patients: unknown, every exam is taken for one"
    for task in dataset.tasks:
        yield f"task {task.name} ({task.kind}): {'; '.join(_targets(task, cases))}"


def _targets(task: Task, cases: Sequence[Case]) -> Iterator[str]:
    """Describe the targets of each split."""
    for split in dict.fromkeys(case.split for case in cases):
        found = [case.targets[task.name] for case in cases if case.split == split and task.name in case.targets]
        if not found:
            continue
        if task.kind == "regression":
            unit = f" {task.unit}" if task.unit else ""
            values = np.array(found, np.float64)
            yield f"{split} {len(found)} from {values.min():g} to {values.max():g}{unit}"
        elif task.kind == "multilabel":
            positives = np.array(found).sum(axis=0)
            named = ", ".join(f"{name}: {count}" for name, count in zip(task.classes, positives, strict=True))
            yield f"{split} {len(found)}, of them {named}"
        else:
            classes = _classes(task, cases, split)
            yield f"{split} {', '.join(f'{name}: {classes[name]}' for name in task.classes)}"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())

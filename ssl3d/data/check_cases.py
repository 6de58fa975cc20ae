"""Checks of a data set before any voxel is read: ids, patients, targets, splits. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from ssl3d.data.faults import DataFaultsError, Fault
from ssl3d.dataset import Case, Dataset
from ssl3d.errors import DataError, hidden, quoted, shortened
from ssl3d.task import Target, Task

SPLITS = ("train", "test")  # required, unless outer folds are used


def checked_cases(dataset: Dataset, splits: Sequence[str] = SPLITS) -> list[Case]:
    """Return the cases of a data set after all checks that need no voxels.

    Args:
        dataset: data set to check.
        splits: splits that must have a case and may not share a patient; none with outer folds.

    Raises:
        DataError: the tables have a fault, or a split has no case.
        DataFaultsError: two cases have the same id, an id cannot be stored in a table, a target is not valid for its
            task, or a patient is in two of the splits.
    """
    cases = dataset.cases()
    tasks = {task.name: task for task in dataset.tasks}
    if len(tasks) < len(dataset.tasks):
        raise DataError(f"{dataset.name} has two tasks of one name; rename one of the two")
    faults = [*_id_faults(cases), *_target_faults(cases, tasks), *_patients_in_two(dataset.name, cases, splits)]
    if faults:
        raise DataFaultsError(faults)
    for split in splits:
        if not any(case.split == split for case in cases):
            raise DataError(
                f"{dataset.name} has no case in the split {split!r}; give it some, or cross-validate with --folds K"
            )
    return cases


def _id_faults(cases: Sequence[Case]) -> Iterator[Fault]:
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            yield Fault(case.source, f"case {quoted(case.id)} exists already; give every case an id of its own")
        seen.add(case.id)
        for kind, text in (("id", case.id), ("patient", case.patient), ("exam", case.exam)):
            if hidden(text) is not None:
                yield Fault(case.source, f"the {kind} {quoted(text)} has an invisible character; rename it")


def _target_faults(cases: Sequence[Case], tasks: Mapping[str, Task]) -> Iterator[Fault]:
    for case in cases:
        for name, target in case.targets.items():
            if name not in tasks:
                yield Fault(case.source, f"it has a target for {quoted(name)}, which is not a task of the data set")
                continue
            problem = target_problem(tasks[name], target)
            if problem:
                yield Fault(case.source, f"the target {shortened(repr(target))} of {quoted(name)} {problem}")


def target_problem(task: Task, target: Target) -> str | None:
    """Return what is wrong with a target of a task, as the end of a sentence that begins with the target, or None."""
    if task.kind == "regression":
        sound = type(target) is float and math.isfinite(target)
        return None if sound else "is not a finite float, as a regression needs; convert it"
    if task.kind == "multilabel":
        sound = isinstance(target, tuple) and len(target) == task.outputs and all(_index(value, 2) for value in target)
        return None if sound else f"is not a tuple of {task.outputs} numbers 0 or 1, one for each label; correct it"
    if _index(target, task.outputs):
        return None
    return f"is not a class index from 0 to {task.outputs - 1} ({shortened(', '.join(task.classes), 200)}); correct it"


def _index(value: object, count: int) -> bool:
    return type(value) is int and 0 <= value < count


def _patients_in_two(name: str, cases: Sequence[Case], splits: Sequence[str]) -> Iterator[Fault]:
    """Find patients with cases in two of the splits, which would inflate test results."""
    first: dict[str, Case] = {}
    reported: set[str] = set()
    for case in (case for case in cases if case.split in splits):
        other = first.setdefault(case.patient, case)
        if other.split != case.split and case.patient not in reported:
            reported.add(case.patient)
            yield Fault(
                name,
                f"patient {shortened(case.patient)} is in {other.split} ({other.source}) and {case.split} "
                f"({case.source}); move one, or cross-validate with --folds K",
            )

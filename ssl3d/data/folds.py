"""Outer folds: cross-validation over all labelled cases, used instead of a data set's own split.

Patients are assigned to folds. A patient's fold depends on its name, the targets of its cases for all tasks, and the
other patients: it is the same for every method, seed and task, and for all planes of an exam, whose cases are
assigned together (:func:`joined`). An encoder that never saw the test fold thus serves every task. Loads no torch.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ssl3d.errors import DataError
from ssl3d.task import Target, Targets, Task

if TYPE_CHECKING:
    from ssl3d.data.store import Store

Item = tuple[str, int, int]  # a task, a label of it (0 if it has only one), and a class or a quartile
QUARTILES = (0.25, 0.5, 0.75)


class Labelled(Protocol):
    """The properties that decide a fold, of a case of a data set or its record in a store."""

    @property
    def split(self) -> str:
        """Split in the data set; "unlabelled" is never tested."""

    @property
    def patient(self) -> str:
        """The unit assigned to a fold."""

    @property
    def targets(self) -> Targets:
        """Targets by task."""


def folds_of(cases: Sequence[Labelled], folds: int) -> dict[str, int]:
    """Return the fold 0..folds-1 of each patient with a target, stratified by all tasks at once.

    Iterative stratification (Sechidis et al. 2011, ECML PKDD, LNCS 6913:145) over patients, each with the union of its
    cases' classes: the rarest remaining class goes first, each of its patients to the fold that lacks most of them,
    then to the one with most room. Regression targets count by quartile. With one task and one case per patient, the
    folds differ by at most one case of a class. Ties are broken by a hash of the patient, independent of the order of
    ``cases``.

    Raises:
        DataError: there are fewer patients with targets than folds.
    """
    items = _items_by_patient(cases)
    if len(items) < folds:
        raise DataError(f"{len(items)} patients have a target, too few for {folds} folds; choose fewer --folds")
    left = {patient: items[patient] for patient in sorted(items, key=_shuffled)}
    counts = Counter(item for found in left.values() for item in found)
    lacking = {item: np.full(folds, count / folds) for item, count in counts.items()}
    room = np.full(folds, len(left) / folds)
    dealt: dict[str, int] = {}
    while left:
        counts = Counter(item for found in left.values() for item in found)
        rarest = min(counts, key=lambda item: (counts[item], item))
        for patient in [patient for patient, found in left.items() if rarest in found]:
            fold = max(range(folds), key=lambda f: (lacking[rarest][f], room[f], -f))
            dealt[patient] = fold
            room[fold] -= 1
            for item in left.pop(patient):
                lacking[item][fold] -= 1
    return dealt


def joined(planes: Iterable[Sequence[Labelled]]) -> list[Labelled]:
    """Return the cases of all planes: a patient who lacks a plane has the same fold in the others."""
    return [case for cases in planes for case in cases]


def training_volumes(cases: Sequence[Labelled], folds: int | None, fold: int) -> int:
    """Return the number of volumes to pretrain on, in a fold or, without folds, in the split."""
    return sum(split in {"train", "unlabelled"} for split in _splits(cases, folds, fold, cases))


def fold_view(store: Store, folds: int, fold: int, among: Sequence[Labelled] | None = None) -> Store:
    """Return a store in which the patients of one fold form the split "test", and the others "train".

    All cases of a patient stay together, even those without a target. Patients without any target keep their split, and
    "unlabelled" cases of patients who are not tested remain so. Voxels and fingerprint are those of ``store``.

    Args:
        store: the volumes.
        folds: number of folds.
        fold: index of the test fold.
        among: cases that are divided into folds; the store's if None.
    """
    cases = store.manifest.cases
    return store.with_splits(_splits(cases, folds, fold, cases if among is None else among))


def check_folds(store: Store, task: str, folds: int, among: Sequence[Labelled] | None = None) -> None:
    """Check that every fold of a store can be evaluated; see :func:`require_folds`.

    Args:
        store: the volumes.
        task: task to evaluate.
        folds: number of folds.
        among: see :func:`fold_view`.
    """
    cases = store.manifest.cases
    require_folds(store.name, store.task(task), cases, folds, cases if among is None else among)


def require_folds(name: str, task: Task, cases: Sequence[Labelled], folds: int, among: Sequence[Labelled]) -> None:
    """Check that every fold has a case with a target for a task, and one of each class if it is categorical.

    Raises:
        DataError: a fold has none; the message begins with ``name``.
    """
    patients: defaultdict[str, set[str]] = defaultdict(set)
    for case in (case for case in cases if task.name in case.targets and case.split != "unlabelled"):
        target = case.targets[task.name]
        patients[f"case of class {task.classes[target]!r}" if isinstance(target, int) else "case"].add(case.patient)
    if not patients:
        raise DataError(f"{name}: no volume has a target for {task.name!r}; name another task")
    for what, found in sorted(patients.items(), key=lambda item: (len(item[1]), item[0])):
        if len(found) < folds:  # before the assignment, which is slow for thousands of folds
            raise DataError(
                f"{name}: {len(found)} patients have a {what} of {task.name!r}, too few for {folds} folds; choose "
                "fewer --folds"
            )
    dealt = folds_of(among, folds)
    for what, found in sorted(patients.items()):
        without = set(range(folds)) - {dealt[patient] for patient in found}
        if without:
            raise DataError(
                f"{name}: fold {min(without)} of {folds} has no {what} of {task.name!r}, which {len(found)} patients "
                "have; choose fewer --folds"
            )


def _splits(cases: Sequence[Labelled], folds: int | None, fold: int, among: Sequence[Labelled]) -> list[str]:
    """Return the split of each case, in a fold or, without folds, unchanged."""
    if folds is None:
        return [case.split for case in cases]
    dealt = folds_of(among, folds)
    return [_split(case, dealt.get(case.patient), fold) for case in cases]


def _split(case: Labelled, dealt: int | None, fold: int) -> str:
    if dealt is None or (case.split == "unlabelled" and dealt != fold):
        return case.split
    return "test" if dealt == fold else "train"


def _items_by_patient(cases: Sequence[Labelled]) -> dict[str, frozenset[Item]]:
    """Return the items that each patient with a target counts for."""
    dealt = [case for case in cases if case.targets and case.split != "unlabelled"]
    items: defaultdict[str, set[Item]] = defaultdict(set)
    values: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for case in dealt:
        for task, target in case.targets.items():
            items[case.patient].update(_classes(task, target))
            if isinstance(target, float):
                values[task][case.patient].append(target)
    for task, by_patient in values.items():
        for patient, quartile in _quartiles(by_patient).items():
            items[patient].add((task, 0, quartile))
    return {patient: frozenset(found) for patient, found in items.items()}


def _classes(task: str, target: Target) -> Iterator[Item]:
    if isinstance(target, tuple):
        yield from ((task, label, value) for label, value in enumerate(target))
    elif isinstance(target, int):
        yield task, 0, target


def _quartiles(values: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """Return the quartile 0..3 of each patient's mean."""
    means = {patient: float(np.mean(found)) for patient, found in values.items()}
    edges = np.quantile(list(means.values()), QUARTILES)
    return {patient: int(np.searchsorted(edges, mean)) for patient, mean in means.items()}


def _shuffled(patient: str) -> str:
    return hashlib.sha256(f"fold {patient}".encode()).hexdigest()

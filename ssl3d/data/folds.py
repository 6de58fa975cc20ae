"""Outer folds: cross-validation over all labelled cases, in place of a data set's own split.

A case's fold follows from its id, its labels for all tasks, and the other cases: the same for every method, seed and
task, and in the planes of one exam, where the exams of all planes are dealt together (:func:`joined`). So an encoder
that never saw the test fold serves every task. Loads no torch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from ssl3d.errors import DataError

if TYPE_CHECKING:
    from ssl3d.data.store import Store
    from ssl3d.dataset import Case


class Labelled(Protocol):
    """What a fold is decided by."""

    @property
    def id(self) -> str:
        """Unique among the cases."""

    @property
    def labels(self) -> Mapping[str, int]:
        """Class by task."""


def folds_of(cases: Sequence[Labelled], folds: int) -> dict[str, int]:
    """Return the fold 0..folds-1 of every labelled case by id, stratified by all tasks at once.

    Iterative stratification (Sechidis et al. 2011, ECML PKDD, LNCS 6913:145): the rarest class still to be dealt goes
    first, each of its cases to the fold that lacks most of them, then to the one with most room. With one task, the
    folds differ by one case of a class at most. Order is by a hash of the id, whatever the order of ``cases``.
    """
    left = {case.id: frozenset(case.labels.items()) for case in sorted(cases, key=_shuffled) if case.labels}
    counts = Counter(item for items in left.values() for item in items)
    lacking = {item: np.full(folds, count / folds) for item, count in counts.items()}
    room = np.full(folds, len(left) / folds)
    found: dict[str, int] = {}
    while left:
        counts = Counter(item for items in left.values() for item in items)
        rarest = min(counts, key=lambda item: (counts[item], item))
        for id in [id for id, items in left.items() if rarest in items]:
            fold = max(range(folds), key=lambda f: (lacking[rarest][f], room[f], -f))
            found[id] = fold
            room[fold] -= 1
            for item in left.pop(id):
                lacking[item][fold] -= 1
    return found


class _Exam(NamedTuple):
    id: str
    labels: Mapping[str, int]


def joined(planes: Iterable[Sequence[Labelled]]) -> list[Labelled]:
    """Return the exams of all planes, by id, with the labels of all: a plane that lacks one has the others' folds."""
    found: dict[str, dict[str, int]] = {}
    for case in (case for cases in planes for case in cases):
        found[case.id] = {**case.labels, **found.get(case.id, {})}
    return [_Exam(id, labels) for id, labels in found.items()]


def _shuffled(case: Labelled) -> str:
    return hashlib.sha256(f"fold {case.id}".encode()).hexdigest()


def training_volumes(cases: Sequence[Case], folds: int | None, fold: int) -> int:
    """Return how many volumes there are to train on, in a fold or, without folds, in the split."""
    found = {} if folds is None else folds_of(cases, folds)
    return sum(found[case.id] != fold if case.id in found else case.split == "train" for case in cases)


def fold_view(store: Store, folds: int, fold: int, among: Sequence[Labelled] | None = None) -> Store:
    """Return a store in which one fold is the split "test", and the other labelled cases are "train".

    Cases without any label keep their split. Voxels and fingerprint are those of ``store``.

    Args:
        store: the volumes.
        folds: how many there are.
        fold: number of the one that is tested.
        among: cases that folds are dealt among; None for those of ``store``.
    """
    found = folds_of(store.manifest.cases if among is None else among, folds)
    splits = {id: "test" if other == fold else "train" for id, other in found.items()}
    return store.with_splits([splits.get(case.id, case.split) for case in store.manifest.cases])


def check_folds(store: Store, task: str, folds: int, among: Sequence[Labelled] | None = None) -> None:
    """Check that every fold has a case of each class of a task; ``among`` is as for :func:`fold_view`.

    Raises:
        DataError: one has not.
    """
    found = folds_of(store.manifest.cases if among is None else among, folds)
    classes = {case.id: case.labels[task] for case in store.manifest.cases if task in case.labels}
    if not classes:
        raise DataError(f"{store.name}: no volume has a label for {task!r}")
    for value, count in sorted(Counter(classes.values()).items()):
        without = set(range(folds)) - {found[id] for id, other in classes.items() if other == value}
        if without:
            raise DataError(
                f"{store.name}: fold {min(without)} of {folds} has no case of class {value} of {task!r}, of which "
                f"there are {count}; choose fewer --folds"
            )

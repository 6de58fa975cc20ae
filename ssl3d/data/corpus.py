"""The corpus: training volumes of one or more stores as one source for pretraining, without tested ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from ssl3d.data.manifest import Record, plain_targets, sha256
from ssl3d.data.store import Store
from ssl3d.data.volumes import Volumes
from ssl3d.errors import DataError
from ssl3d.task import Target, Task

TRAINING = ("train", "unlabelled")
ROWS = ("labels", "patient", "case")


@dataclass(frozen=True)
class Corpus:
    """Volumes for pretraining, numbered from 0. Made by :meth:`of`.

    Attributes:
        stores: stores of the volumes.
        places: for each volume, the index of its store and its index there.
        needs: rows beyond voxels that may be read: "labels", "patient", "case".
        task: task of the labels; None if none are needed.
        excluded: number of volumes left out of training splits because they, or their patients, are tested on.
    """

    stores: tuple[Store, ...]
    places: tuple[tuple[int, int], ...]
    needs: frozenset[str] = frozenset()
    task: Task | None = None
    excluded: int = 0

    @classmethod
    def of(
        cls,
        stores: Sequence[Store],
        exclude: Iterable[Store] = (),
        needs: frozenset[str] = frozenset(),
        task: str | None = None,
    ) -> Self:
        """Take the splits "train" and "unlabelled" of stores, in order, and leave out tested volumes.

        Every volume is left out whose patient (within a data set family) or whose voxels (in any data set) are among
        the test cases of a store in ``exclude``.

        Args:
            stores: stores to pretrain on, as views of their fold.
            exclude: evaluated stores, as views of their fold.
            needs: rows beyond voxels that the method needs.
            task: task whose labels it needs.

        Raises:
            DataError: the task is unknown or differs between stores, no volume is left, or volumes differ in their
                number of channels.
        """
        patients, contents = _tested(exclude)
        places, excluded = [], 0
        for number, store in enumerate(stores):
            for index, case in enumerate(store.manifest.cases):
                if case.split not in TRAINING:
                    continue
                if (store.manifest.family, case.patient) in patients or str(case.content) in contents:
                    excluded += 1
                else:
                    places.append((number, index))
        labels = _shared_task(stores, task) if "labels" in needs else None
        corpus = cls(tuple(stores), tuple(places), needs, labels, excluded)
        _check(corpus)
        return corpus

    def __len__(self) -> int:
        return len(self.places)

    @property
    def name(self) -> str:
        """Names of the data sets, with variant and plane, joined by " + "."""
        return " + ".join(dict.fromkeys(store.name for store in self.stores))

    @property
    def synthetic(self) -> bool:
        """Whether any of the volumes are generated."""
        return any(store.synthetic for store in self.stores)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the volumes' voxels in order, and over labels and patients if they are needed."""
        content: dict[str, Any] = {"voxels": [case.content for case in self._cases]}
        if self.task is not None:
            targets = [self._target(case) for case in self._cases]
            content["task"] = self.task.model_dump(mode="json", exclude={"name"})
            content["labels"] = [None if target is None else plain_targets({"": target})[""] for target in targets]
        if "patient" in self.needs:
            content["patients"] = self._patients
        return sha256(content)

    def volumes(self, indices: Sequence[int], device: torch.device) -> Volumes:
        """Return volumes on a device; see :meth:`ssl3d.data.store.Store.volumes`.

        Raises:
            DataError: a volume is damaged.
        """
        parts = [
            self.stores[number].volumes([index], device) for number, index in map(self.places.__getitem__, indices)
        ]
        return Volumes(
            tuple(part.voxels[0] for part in parts),
            torch.cat([part.mean for part in parts]),
            torch.cat([part.std for part in parts]),
        )

    def rows(self, names: Iterable[str], indices: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """Return rows of B volumes by name, on a device.

        Args:
            names: among "labels", (B,) int64 class indices with -1 if unknown, (B, L) float32 of 0 and 1 (multi-label)
                or (B,) float32 (regression) with NaN if unknown; "patient" and "case", (B,) int64 indices.
            indices: indices of B volumes.
            device: device of the rows.

        Raises:
            ValueError: the corpus was not made with a row: labels are available only to methods that declare them.
        """
        found = {}
        for name in names:
            if name not in self.needs or name not in ROWS:
                raise ValueError(f"the row {name!r} was not declared; a method names what it needs in `needs`")
            found[name] = self._row(name, indices).to(device)
        return found

    def resident(self, device: torch.device) -> Self:
        """Return this corpus with its stores in the memory of a device: the same batches, without transfers."""
        held: dict[int, Store] = {}
        for store in self.stores:
            held.setdefault(id(store), store.resident(device))
        return replace(self, stores=tuple(held[id(store)] for store in self.stores))

    @cached_property
    def _cases(self) -> list[Record]:
        return [self.stores[number].manifest.cases[index] for number, index in self.places]

    def _row(self, name: str, indices: Sequence[int]) -> Tensor:
        if name == "case":
            return torch.tensor(list(indices), dtype=torch.int64)
        if name == "patient":
            return torch.tensor([self._patients[index] for index in indices], dtype=torch.int64)
        assert self.task is not None  # `of` found it, or raised
        unknown, dtype = _unknown(self.task)
        targets = [self._target(self._cases[index]) for index in indices]
        return torch.tensor([unknown if target is None else target for target in targets], dtype=dtype)

    def _target(self, case: Record) -> Target | None:
        """Return the target of a case as far as the method may know it; None if its data set calls it unlabelled."""
        assert self.task is not None
        return None if case.split == "unlabelled" else case.targets.get(self.task.name)

    @cached_property
    def _patients(self) -> list[int]:
        """The index of each volume's patient, in order of first appearance."""
        numbers: dict[tuple[str, str], int] = {}
        keys = (
            (self.stores[number].manifest.family, self.stores[number].manifest.cases[index].patient)
            for number, index in self.places
        )
        return [numbers.setdefault(key, len(numbers)) for key in keys]


def _tested(stores: Iterable[Store]) -> tuple[set[tuple[str, str]], set[str]]:
    """Return the patients, by family and name, and the voxels of the test cases of stores."""
    tested = [
        (store.manifest.family, case) for store in stores for case in store.manifest.cases if case.split == "test"
    ]
    return {(family, case.patient) for family, case in tested}, {str(case.content) for _, case in tested}


def _shared_task(stores: Sequence[Store], name: str | None) -> Task:
    """Return the task whose labels are needed; stores that do not have it are unlabelled."""
    if name is None:
        raise DataError("the method needs labels, and no task says which; name one with --task")
    found = [(store.name, task) for store in stores for task in store.tasks if task.name == name]
    if not found:
        return stores[0].task(name)  # raises, and suggests the nearest
    for other, task in found:
        if task != found[0][1]:
            raise DataError(
                f"the task {name!r} has other classes in {other} ({', '.join(task.classes)}) than in {found[0][0]} "
                f"({', '.join(found[0][1].classes)}); rename one of the two, or pretrain on one of them"
            )
    return found[0][1]


def _unknown(task: Task) -> tuple[int | float | tuple[float, ...], torch.dtype]:
    """Return the value for an unknown target, and the dtype of the row."""
    if task.kind == "multilabel":
        return (float("nan"),) * task.outputs, torch.float32
    return (float("nan"), torch.float32) if task.kind == "regression" else (-1, torch.int64)


def _check(corpus: Corpus) -> None:
    if not corpus.places:
        left_out = (
            f"; {corpus.excluded} are left out, for they or their patients are tested on" if corpus.excluded else ""
        )
        raise DataError(
            f"{corpus.name} has no volume to pretrain on{left_out}: add volumes to the split 'train' or 'unlabelled', "
            "or name another --corpus"
        )
    channels = {case.shape[0] for case in corpus._cases}
    if len(channels) > 1:
        counts = " and ".join(map(str, sorted(channels)))
        raise DataError(f"{corpus.name} mixes volumes with {counts} channels; pretrain on data sets with one number")

"""The packed store: all volumes of a data set in one memory-mapped file, so that reading a batch needs no decoding."""

from __future__ import annotations

import hashlib
import os
import weakref
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ssl3d.data.manifest import VOXELS, DamagedStoreError, Manifest, fingerprint, plain_targets, sha256
from ssl3d.data.volumes import Volumes
from ssl3d.errors import DataError, nearest
from ssl3d.task import Task

CPU = torch.device("cpu")


class Store:
    """A packed data set. Volumes are identified by their index in ``manifest.cases``.

    Made by :func:`ssl3d.data.pack.pack` or :meth:`open`, not by its constructor.

    Attributes:
        folder: folder of the store.
        manifest: description of its content.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        voxels: Tensor,
        verified: set[int] | None = None,
        file: _Mapped | None = None,
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self._voxels = voxels  # (all voxels,), one after the other
        self._verified: set[int] = set() if verified is None else verified  # volumes whose bytes have been verified
        self._file = file  # the mapped file, kept open for its length; None if the voxels are in memory

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a complete store. Maps the voxels without reading them.

        Raises:
            DamagedStoreError: the manifest is damaged, or the voxels have the wrong length.
            DataError: there is no manifest, or its version is unknown.
        """
        manifest = Manifest.read(folder)
        path = folder / VOXELS
        length = path.stat().st_size if path.is_file() else 0
        if length != manifest.size or not manifest.cases:
            raise DamagedStoreError(f"{path} has {length} bytes where its manifest says {manifest.size}", folder)
        dtype = manifest.cases[0].dtype
        size = length // np.dtype(dtype).itemsize
        # A private mapping: no copy is made, and accidental writes never reach the file.
        voxels = torch.from_file(str(path), shared=False, size=size, dtype=getattr(torch, dtype))
        return cls(folder, manifest, voxels, file=_Mapped(path))

    def __len__(self) -> int:
        return len(self.manifest.cases)

    @property
    def name(self) -> str:
        """Name of the data set, with variant and plane."""
        return self.manifest.name

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Tasks with targets; the first is the default."""
        return self.manifest.tasks

    @property
    def synthetic(self) -> bool:
        """Whether the volumes are generated."""
        return self.manifest.synthetic

    @property
    def knows_patients(self) -> bool:
        """Whether patients are known; if not, every case counts as one."""
        return self.manifest.knows_patients

    @property
    def fingerprint(self) -> str:
        """SHA-256 over tasks, ids, splits, patients, targets and voxels."""
        return self.manifest.fingerprint

    @property
    def voxel_fingerprint(self) -> str:
        """SHA-256 over ids and voxels."""
        return sha256([[case.id, case.content] for case in self.manifest.cases])

    def evaluation_fingerprint(self, task: str, splits: Sequence[str] = ("train", "test")) -> str:
        """Return the SHA-256 over a task and the training and test cases, or others, with a target for it.

        It covers ids, patients, splits, targets and voxels.

        Raises:
            DataError: the task is unknown.
        """
        kind = self.task(task).model_dump(mode="json")
        rows = [
            [case.id, case.patient, case.split, plain_targets({task: case.targets[task]}), case.content]
            for case in self.manifest.cases
            if case.split in splits and task in case.targets
        ]
        return sha256([kind, rows])

    def task(self, name: str) -> Task:
        """Return the task with this name.

        Raises:
            DataError: it is unknown.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        raise DataError(f"{self.name} has no task {name!r}{nearest(name, (task.name for task in self.tasks))}")

    def indices(self, split: str) -> list[int]:
        """Return the volumes of a split, in order."""
        return [index for index, case in enumerate(self.manifest.cases) if case.split == split]

    def ids(self, indices: Sequence[int]) -> list[str]:
        """Return the case ids of volumes."""
        return [self.manifest.cases[index].id for index in indices]

    def patients(self, indices: Sequence[int]) -> list[str]:
        """Return the patients of volumes; the case ids if patients are unknown."""
        return [self.manifest.cases[index].patient for index in indices]

    def labelled(self, split: str, task: str) -> list[int]:
        """Return the volumes of a split that have a target for the task.

        Raises:
            DataError: the task is unknown.
        """
        self.task(task)
        return [index for index in self.indices(split) if task in self.manifest.cases[index].targets]

    def targets(self, task: str, indices: Sequence[int]) -> np.ndarray:
        """Return the targets of N volumes.

        Returns:
            (N,) int64 class indices; (N, L) int64 of 0 and 1 (multi-label); (N,) float64 (regression).

        Raises:
            DataError: the task is unknown, or a volume has no target for it (see :meth:`labelled`).
        """
        kind = self.task(task)
        cases = [self.manifest.cases[index] for index in indices]
        for case in cases:
            if task not in case.targets:
                raise DataError(f"{self.name}: case {case.id} has no target for {task!r}; add it")
        dtype = np.float64 if kind.kind == "regression" else np.int64
        shape = (len(cases), kind.outputs) if kind.kind == "multilabel" else (len(cases),)
        return np.array([case.targets[task] for case in cases], dtype).reshape(shape)

    def volumes(self, indices: Sequence[int], device: torch.device = CPU) -> Volumes:
        """Return volumes as packed, on a device.

        On the device that holds the voxels (the CPU, or that of :meth:`resident`) they are views, not copies, and must
        not be modified. The bytes of a volume are compared with their hash when it is first read.

        Raises:
            DamagedStoreError: a volume is damaged.
        """
        self._require_whole()
        cases = [self.manifest.cases[index] for index in indices]
        parts = [self._part(index) for index in indices]
        for index, part in zip(indices, parts, strict=True):
            self._verify(index, part)
        shaped = [part.view(case.shape) for case, part in zip(cases, parts, strict=True)]  # (C, D, H, W)
        mean = torch.tensor([case.mean for case in cases], dtype=torch.float32, device=device)  # (B,)
        std = torch.tensor([case.std for case in cases], dtype=torch.float32, device=device)  # (B,)
        return Volumes(tuple(voxels.to(device) for voxels in shaped), mean, std)

    def resident(self, device: torch.device) -> Self:
        """Return this store with all its voxels in the memory of a device: the same batches, without transfers.

        Raises:
            DamagedStoreError: a volume is damaged.
        """
        self._require_whole()
        for index in range(len(self)):
            self._verify(index, self._part(index))
        return type(self)(self.folder, self.manifest, self._voxels.to(device, copy=True), self._verified)

    def with_splits(self, splits: Sequence[str]) -> Self:
        """Return a view of this store with another split for each volume; its fingerprint is still the store's."""
        cases = zip(self.manifest.cases, splits, strict=True)
        moved = tuple(case.model_copy(update={"split": split}) for case, split in cases)
        manifest = self.manifest.model_copy(update={"cases": moved})
        return type(self)(self.folder, manifest, self._voxels, self._verified, self._file)

    def verify(self) -> None:
        """Verify all hashes again.

        Raises:
            DamagedStoreError: the voxels of a case, or the manifest, differ from what was packed.
        """
        self._require_whole()
        self._verified.clear()
        for index in range(len(self)):
            self._verify(index, self._part(index))
        if fingerprint(self.tasks, self.manifest.cases) != self.fingerprint:
            raise DamagedStoreError(f"{self.folder}: the manifest was changed after packing", self._folder_now)

    def duplicates(self) -> list[tuple[str, str]]:
        """Return pairs (train id, test id) of volumes with the same voxels, which make the test set leak."""
        train: defaultdict[str, list[str]] = defaultdict(list)
        for case in (self.manifest.cases[index] for index in self.indices("train")):
            train[str(case.content)].append(case.id)
        tests = [self.manifest.cases[index] for index in self.indices("test")]
        return [(id, case.id) for case in tests for id in train.get(str(case.content), [])]

    def _require_whole(self) -> None:
        """Raise DamagedStoreError if the mapped file was truncated: reading past its end kills a process (SIGBUS)."""
        if self._file is not None and self._file.size < self.manifest.size:
            message = f"{self.folder / VOXELS} was cut short while it was in use"
            raise DamagedStoreError(message, self._folder_now)

    @property
    def _folder_now(self) -> Path | None:
        """The folder, if it still holds this store: another process may have packed it again."""
        return self.folder if self._file is None or self._file.is_at(self.folder / VOXELS) else None

    def _part(self, index: int) -> Tensor:
        """Return the voxels of a volume as one row."""
        case = self.manifest.cases[index]
        start = case.offset // self._voxels.element_size()
        return self._voxels[start : start + case.voxels]

    def _verify(self, index: int, part: Tensor) -> None:
        """Compare the bytes of a volume with their hash, once."""
        if index in self._verified:
            return
        case = self.manifest.cases[index]
        if hashlib.sha256(part.cpu().numpy().data).hexdigest() != case.sha256:
            message = f"{self.folder / VOXELS}: case {case.id} of {self.name} is damaged"
            raise DamagedStoreError(message, self._folder_now)
        self._verified.add(index)


class _Mapped:
    """The mapped file, kept open for its length even if another file has taken its name."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._handle)

    @property
    def size(self) -> int:
        """Its current length in bytes."""
        return os.fstat(self._handle).st_size

    def is_at(self, path: Path) -> bool:
        """Return whether this is still the file at a path."""
        try:
            return os.path.samestat(path.stat(), os.fstat(self._handle))
        except OSError:
            return False

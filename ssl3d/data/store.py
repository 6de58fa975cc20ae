"""The packed store: all volumes of a data set in one memory-mapped file, so that a batch is a slice, not a decode."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ssl3d.data.manifest import VOXELS, Manifest, fingerprint
from ssl3d.data.volumes import Volumes
from ssl3d.errors import DataError, nearest

CPU = torch.device("cpu")


class Store:
    """A packed data set. Volumes are named by their index in ``manifest.cases``.

    Made by :func:`ssl3d.data.pack.pack` or :meth:`open`, not by its constructor.

    Attributes:
        folder: where it is.
        manifest: what it holds.
    """

    def __init__(self, folder: Path, manifest: Manifest, voxels: Tensor) -> None:
        self.folder = folder
        self.manifest = manifest
        self._voxels = voxels  # (all voxels,), one after the other

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a complete store. Maps the voxels; reads none.

        Raises:
            DataError: no manifest, an unknown version, a damaged manifest, or voxels of the wrong length.
        """
        manifest = Manifest.read(folder)
        path = folder / VOXELS
        length = path.stat().st_size if path.is_file() else 0
        if length != manifest.size or not manifest.cases:
            raise DataError(
                f"{path} has {length} bytes where its manifest says {manifest.size}; remove {folder} and pack it again"
            )
        dtype = manifest.cases[0].dtype
        size = length // np.dtype(dtype).itemsize
        # A private mapping: no copy, and what were written into it by mistake would never reach the file.
        return cls(folder, manifest, torch.from_file(str(path), shared=False, size=size, dtype=getattr(torch, dtype)))

    def __len__(self) -> int:
        return len(self.manifest.cases)

    @property
    def name(self) -> str:
        """Name of the data set, with variant and plane."""
        return self.manifest.name

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that cases are labelled for; the first is the default."""
        return self.manifest.tasks

    @property
    def synthetic(self) -> bool:
        """Whether the volumes are generated."""
        return self.manifest.synthetic

    @property
    def fingerprint(self) -> str:
        """SHA-256 over ids, splits, labels, shapes and voxels."""
        return self.manifest.fingerprint

    def indices(self, split: str) -> list[int]:
        """Return the volumes of a split, in order."""
        return [index for index, case in enumerate(self.manifest.cases) if case.split == split]

    def ids(self, indices: Sequence[int]) -> list[str]:
        """Return the case ids of volumes."""
        return [self.manifest.cases[index].id for index in indices]

    def labelled(self, split: str, task: str) -> list[int]:
        """Return the volumes of a split that have a label for the task.

        Raises:
            DataError: the task is unknown.
        """
        self._require_task(task)
        return [index for index in self.indices(split) if task in self.manifest.cases[index].labels]

    def labels(self, task: str, indices: Sequence[int]) -> np.ndarray:
        """Return the classes (N,), int64, of volumes.

        Raises:
            DataError: the task is unknown, or a volume has no label for it (see :meth:`labelled`).
        """
        self._require_task(task)
        for index in indices:
            if task not in self.manifest.cases[index].labels:
                raise DataError(f"{self.name}: case {self.manifest.cases[index].id} has no label for {task!r}; add it")
        return np.array([self.manifest.cases[index].labels[task] for index in indices], np.int64)  # (N,)

    def volumes(self, indices: Sequence[int], device: torch.device = CPU) -> Volumes:
        """Return volumes as they were packed, on a device.

        On the device where the voxels are (the CPU, or that of :meth:`resident`) they are views, not copies: do not
        write into them.
        """
        cases = [self.manifest.cases[index] for index in indices]
        itemsize = self._voxels.element_size()
        starts = [case.offset // itemsize for case in cases]
        voxels = tuple(
            self._voxels[start : start + case.voxels].view(case.shape).to(device)  # (C, D, H, W)
            for start, case in zip(starts, cases, strict=True)
        )
        mean = torch.tensor([case.mean for case in cases], dtype=torch.float32, device=device)  # (B,)
        std = torch.tensor([case.std for case in cases], dtype=torch.float32, device=device)  # (B,)
        return Volumes(voxels, mean, std)

    def resident(self, device: torch.device) -> Self:
        """Return this store with all its voxels held in the memory of a device: the same batches, without transfers."""
        return type(self)(self.folder, self.manifest, self._voxels.to(device, copy=True))

    def with_splits(self, splits: Sequence[str]) -> Self:
        """Return a view of this store with another split for each volume; its fingerprint is still the store's."""
        cases = zip(self.manifest.cases, splits, strict=True)
        moved = tuple(case.model_copy(update={"split": split}) for case, split in cases)
        return type(self)(self.folder, self.manifest.model_copy(update={"cases": moved}), self._voxels)

    def verify(self) -> None:
        """Hash everything again.

        Raises:
            DataError: the voxels of a case, or the manifest, are not what was packed.
        """
        for index, case in enumerate(self.manifest.cases):
            voxels = self.volumes([index]).voxels[0].cpu().numpy()
            if hashlib.sha256(np.ascontiguousarray(voxels).data).hexdigest() != case.sha256:
                raise DataError(
                    f"{self.folder / VOXELS}: case {case.id} is damaged; remove {self.folder} and pack again"
                )
        if fingerprint(self.manifest.cases) != self.fingerprint:
            raise DataError(f"{self.folder}: the manifest was changed after packing; remove the folder and pack again")

    def duplicates(self) -> list[tuple[str, str]]:
        """Return pairs (train id, test id) of volumes that are equal, voxel for voxel: the test set leaks."""
        train: defaultdict[tuple[object, ...], list[str]] = defaultdict(list)
        for index in self.indices("train"):
            case = self.manifest.cases[index]
            train[case.shape, case.sha256].append(case.id)
        tests = [self.manifest.cases[index] for index in self.indices("test")]
        return [(id, case.id) for case in tests for id in train.get((case.shape, case.sha256), [])]

    def _require_task(self, task: str) -> None:
        if task not in self.tasks:
            raise DataError(f"{self.name} has no task {task!r}{nearest(task, self.tasks)}")

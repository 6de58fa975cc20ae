"""Random volumes and rows, used to measure a method's exactness, speed and memory before it trains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl3d.data.volumes import Volumes
from ssl3d.task import Task


@dataclass(frozen=True)
class RandomSource:
    """A source of random volumes of one size, two per patient, all labelled.

    Attributes:
        size: (D, H, W) of a volume.
        task: task of the labels; binary if None.
    """

    size: tuple[int, int, int]
    task: Task | None = None

    def volumes(self, indices: Sequence[int], device: torch.device) -> Volumes:
        """Return one volume per index, always the same for the same index."""
        voxels = [
            torch.randint(256, (1, *self.size), generator=torch.Generator().manual_seed(index), dtype=torch.uint8)
            for index in indices
        ]
        numbers = [voxel.float() for voxel in voxels]
        mean = torch.stack([voxel.mean() for voxel in numbers]).to(device)
        std = torch.stack([voxel.std(correction=0).clamp_min(1.0) for voxel in numbers]).to(device)
        return Volumes(tuple(voxel.to(device) for voxel in voxels), mean, std)

    def rows(self, names: Iterable[str], indices: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """Return labels, patient and case of the volumes, (B, ...) by name."""
        case = torch.tensor(list(indices), dtype=torch.int64)
        rows = {"labels": self._labels(case), "patient": case // 2, "case": case}
        return {name: rows[name].to(device) for name in names}

    def _labels(self, case: Tensor) -> Tensor:
        if self.task is None or self.task.categorical:
            return case % (2 if self.task is None else self.task.outputs)
        if self.task.kind == "multilabel":
            return (case[:, None] + torch.arange(self.task.outputs)).remainder(2).float()  # (B, L)
        return case.float().cos()

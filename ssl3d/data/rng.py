"""Random numbers as an argument: draws that depend on (seed, step, position in the effective batch) alone.

A volume's views must not change with the micro-batch size, the number of processes, or a resume. So there is no
generator whose state moves along: each number is a function of its key. Scalars come from a counter-based hash of the
key (SplitMix64, Steele et al. 2014), voxel noise from a generator seeded with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(*parts: int | np.ndarray) -> np.ndarray:
    """Hash integers (or arrays of them, broadcast) into uint64 keys, SplitMix64 chained over the parts."""
    key = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            key = _finalise(key + np.asarray(part).astype(np.uint64) + _GOLDEN)
    return key


def _finalise(key: np.ndarray) -> np.ndarray:
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


@dataclass
class Rng:
    """Draws for the volumes of a micro-batch, one row a volume.

    Attributes:
        seed: of the cell.
        step: the optimiser step.
        positions: (B,) places of these volumes in the effective batch.
        device: where the draws are returned.
    """

    seed: int
    step: int
    positions: Sequence[int]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _draws: int = 0

    def __len__(self) -> int:
        return len(self.positions)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return (B,) float32 draws from [low, high), one a volume."""
        unit = (self._keys() >> np.uint64(40)).astype(np.float32) / np.float32(2**24)  # (B,), 24 bits fit a float32
        return torch.from_numpy(unit * np.float32(high - low) + np.float32(low)).to(self.device)

    def bernoulli(self, p: float) -> Tensor:
        """Return (B,) booleans, true with probability p."""
        return self.uniform() < p

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return (B, *shape) standard normal float32 draws, as for voxel noise."""
        rows = []
        for key in self._keys():
            generator = torch.Generator(self.device).manual_seed(int(key >> np.uint64(1)))
            rows.append(torch.randn(tuple(shape), generator=generator, device=self.device))
        return torch.stack(rows)  # (B, *shape)

    def _keys(self) -> np.ndarray:
        self._draws += 1
        return mix(self.seed, self.step, np.asarray(self.positions, np.int64), self._draws)  # (B,)

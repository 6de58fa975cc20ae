"""Random numbers as an argument: draws that depend on (seed, step, position in the effective batch) alone.

A volume's views must not depend on the micro-batch size, the number of processes, or a resume. So no generator
advances: each number is a function of its key. Scalars come from a counter-based hash of the key (SplitMix64, Steele
et al. 2014), voxel noise from a generator seeded with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Stream(IntEnum):
    """The purpose of a draw: the first part of a key. All are above every seed, which begins the keys of views."""

    ORDER = 2**32  # of the volumes in an epoch
    BACKBONE = ORDER + 1  # initial weights
    METHOD = ORDER + 2  # initial weights of heads
    ONLINE = ORDER + 3  # dropout and similar layers in ``online``
    TARGET = ORDER + 4  # in ``target``
    LOSS = ORDER + 5  # in ``loss``


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(*parts: int | NDArray[np.integer], key: NDArray[np.uint64] | None = None) -> NDArray[np.uint64]:
    """Hash integers (or arrays of them, broadcast) into uint64 keys, by SplitMix64 chained over the parts.

    ``key`` is the hash of preceding parts: ``mix(b, key=mix(a)) == mix(a, b)``.
    """
    key = np.zeros((), np.uint64) if key is None else key
    with np.errstate(over="ignore"):
        for part in parts:
            key = _finalise(key + np.asarray(part).astype(np.uint64) + _GOLDEN)
    return key


def _finalise(key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


@dataclass
class Rng:
    """Random draws for the volumes of a micro-batch, one row per volume.

    The n-th draw has its own key, (seed, step, position, n), for every kind of draw.

    Attributes:
        seed: seed of the recipe.
        step: the optimiser step.
        positions: (B,) positions of these volumes in the effective batch.
        device: device of the returned draws.
    """

    seed: int
    step: int
    positions: Sequence[int]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _draws: int = 0
    _volumes: NDArray[np.uint64] | None = None  # (B,) keys of (seed, step, position), common to all draws

    def __len__(self) -> int:
        return len(self.positions)

    def numbers(self, low: float = 0.0, high: float = 1.0, count: int | None = None) -> NDArray[np.float64]:
        """Return float64 draws from [low, high) on the host, (B,) or (B, count).

        For values that control a computation: reading them back from a GPU would make the host wait.
        """
        keys = self._keys()  # (B,)
        if count is not None:
            keys = mix(keys[:, None], np.arange(count))  # (B, count)
        unit = (keys >> np.uint64(11)).astype(np.float64) / 2.0**53  # 53 bits fit a float64
        return unit * (high - low) + low

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return (B,) float32 draws from [low, high), one per volume; rounding to float32 may return ``high``."""
        return torch.from_numpy(self.numbers(low, high).astype(np.float32)).to(self.device)

    def bernoulli(self, p: float) -> Tensor:
        """Return (B,) booleans, true with probability p: never for 0, always for 1."""
        return torch.from_numpy(self.numbers() < p).to(self.device)

    def generators(self) -> list[torch.Generator]:
        """Return B fresh generators on the device, one per volume, as one draw."""
        return [torch.Generator(self.device).manual_seed(int(key >> np.uint64(1))) for key in self._keys()]

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return (B, *shape) standard normal float32 draws. They differ between types of device."""
        rows = [
            torch.randn(tuple(shape), generator=one, device=self.device, dtype=torch.float32)
            for one in self.generators()
        ]
        return torch.stack(rows)  # (B, *shape)

    def _keys(self) -> NDArray[np.uint64]:
        self._draws += 1
        if self._volumes is None:
            self._volumes = mix(self.seed, self.step, np.asarray(self.positions, np.int64))
        return mix(self._draws, key=self._volumes)  # (B,)

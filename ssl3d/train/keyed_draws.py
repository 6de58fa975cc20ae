"""Random draws that belong to volumes, so that a pass with another split can repeat them.

During training, draws in ``online`` are seeded by micro-batch, so another split draws other numbers. To make splits
comparable, each draw is made here volume by volume, keyed by the volume's position in the effective batch. This happens
below torch's functions, so dropout layers, stochastic depth, and hand-written noise and masks are treated alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ssl3d.data.rng import Stream, mix
from ssl3d.train.encode import BatchEncoder, Part, seed_generators


class KeyedEncoder(BatchEncoder):
    """A BatchEncoder in which each volume has its own draws, independent of its micro-batch."""

    @contextmanager
    def seeded(self, stream: Stream, step: int, part: Part, *key: int) -> Iterator[None]:
        """Key the draws inside by step, position and key; restore the global generators afterwards."""
        device = next(self.method.parameters()).device
        seed = int(mix(stream, self.seed, step, *key))
        with super().seeded(stream, step, part, *key), KeyedDraws(part, seed, device):
            yield


class KeyedDraws(TorchDispatchMode):
    """A mode that makes every draw volume by volume; a volume's n-th draw depends on (seed, n, position) alone.

    A draw has rows for volumes if the length of its first axis is a multiple of their number. Any other draw, such as
    one random number for all volumes, is shared by the micro-batch and differs between micro-batches.

    Args:
        part: positions of the volumes in the effective batch.
        seed: seed of the draws.
        device: device whose generator is seeded, in addition to the CPU's.
    """

    def __init__(self, part: Part, seed: int, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.part, self.seed, self.device = part, seed, device
        self.draws = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the result of an operation, with keyed draws if it uses the global generator."""
        named = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded not in func.tags or named.get("generator") is not None:
            return func(*args, **named)
        self.draws += 1
        length = next((_length(value) for value in args if _length(value)), 0)
        if length % len(self.part) or not length:
            self._seed(self.part.start, len(self.part))
            return func(*args, **named)
        return self._by_volume(func, args, named, length)

    def _by_volume(self, func: Any, args: Sequence[Any], named: Mapping[str, Any], length: int) -> Any:
        rows = length // len(self.part)  # of one volume: several if it was cut into windows
        parts = []
        for number, position in enumerate(self.part):
            place = slice(number * rows, (number + 1) * rows)
            own = [_cut(value, length, place) for value in args]
            self._seed(position)
            parts.append(func(*own, **{name: _cut(value, length, place) for name, value in named.items()}))
        return args[0] if func._schema.name.endswith("_") else _joined(parts)

    def _seed(self, *key: int) -> None:
        seed_generators(self.device, int(mix(self.seed, self.draws, *key) >> 1))


def _length(value: Any) -> int:
    """Return the length of the first axis of a tensor or shape; 0 for anything else."""
    if isinstance(value, Tensor):
        return len(value) if value.ndim else 0
    return value[0] if isinstance(value, (list, tuple)) and value and isinstance(value[0], int) else 0


def _cut(value: Any, length: int, place: slice) -> Any:
    """Return the rows of a tensor, or a shape of as many rows, if its first axis has this length; else the value."""
    if _length(value) != length:
        return value
    return value[place] if isinstance(value, Tensor) else [place.stop - place.start, *value[1:]]


def _joined(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts)) if first.ndim else first
    return tuple(_joined(column) for column in zip(*parts, strict=True)) if isinstance(first, tuple) else first

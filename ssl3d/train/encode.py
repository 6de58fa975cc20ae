"""Micro-batches into features, the same features however often and in whatever portions they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from ssl3d.data.rng import Rng, mix
from ssl3d.data.volumes import Volumes
from ssl3d.method import Method
from ssl3d.train.prefetch import Ahead
from ssl3d.train.tuning.layout import in_layout

VIEW_BYTES = 16 * 2**20  # views of a window are kept between the passes up to this size, and made again beyond it
VIEW_SHARE = 0.05  # of the most that a GPU has held so far, if that is more


class Source(Protocol):
    """Where volumes come from: the packed store."""

    def volumes(self, indices: Sequence[int], device: torch.device) -> Volumes:
        """Return the volumes with these numbers, on the device."""


@dataclass(frozen=True)
class Batch:
    """One effective batch: the numbers of its volumes in the store, and the optimiser step they are for."""

    indices: Sequence[int]
    step: int

    def __len__(self) -> int:
        return len(self.indices)


@dataclass
class Encoder:
    """Views and features of parts of an effective batch.

    Views depend on (seed, step, position) alone. Layers that draw at random (dropout, stochastic depth) are seeded for
    each part, view and network, so that encoding a part again gives the same features; the global generators are left
    as they were.

    Attributes:
        method: what makes the views and encodes them.
        source: gives volumes by number.
        seed: of the cell.
        autocast: precision of the backbone.
        channels_last: memory layout of the views.
    """

    method: Method
    source: Source
    seed: int = 0
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    channels_last: bool = False
    keeps: bool = False  # whether views stay from the first pass to the second; known once a part's were made
    _views: dict[range, tuple[Tensor, ...]] = field(default_factory=dict)
    _decided: bool = False
    _ahead: Ahead[tuple[Batch, range]] | None = None

    def views(self, batch: Batch, part: range, parts: int) -> tuple[Tensor, ...]:
        """Return the V views (B, C, D, H, W) of a part, one of ``parts`` of about its size."""
        if part in self._views:
            return self._views[part]
        views = self._make((batch, part)) if self._ahead is None else self._ahead.get((batch, part))
        size = sum(view.numel() * view.element_size() for view in views)
        if not self._decided:  # for the whole window: whoever makes views ahead relies on it
            self.keeps, self._decided = parts * size <= view_bytes(views[0].device), True
        if self.keeps:
            self._views[part] = views
        return views

    def foresee(self, requests: Iterator[tuple[Batch, range]]) -> None:
        """Make views ahead from now on, in the order in which they will be asked for; :meth:`close` ends that."""
        if self._ahead is None:
            self._ahead = Ahead(self._make, next(self.method.parameters()).device)
        self._ahead.follow(requests)

    def close(self) -> None:
        """Make no views ahead any more."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _make(self, request: tuple[Batch, range]) -> tuple[Tensor, ...]:
        batch, part = request
        weight = next(self.method.parameters())
        volumes = self.source.volumes([batch.indices[position] for position in part], weight.device)
        views = self.method.views(volumes, self.rng(batch, part))
        return tuple(in_layout(view.to(weight.dtype), self.channels_last) for view in views)

    def rng(self, batch: Batch, part: range) -> Rng:
        """Return the random numbers of a part's views."""
        return Rng(self.seed, batch.step, part, next(self.method.parameters()).device)

    def forget(self) -> None:
        """Drop the views that were kept: the next effective batch begins."""
        self._views.clear()
        self._decided = False

    def online_views(self, count: int) -> Sequence[int]:
        """Return which of ``count`` views the online network encodes."""
        return range(count) if self.method.online_views is None else self.method.online_views

    def online(self, view: Tensor, batch: Batch, part: range, index: int) -> Tensor:
        """Return the features (B, F) of view ``index``, float32 at least, with gradients where they are enabled."""
        with self._seeded(batch.step, part.start, index, 0), self.autocast():
            return _at_least_float32(self.method.online(view))

    @torch.no_grad()
    def targets(self, views: Sequence[Tensor], batch: Batch, part: range) -> list[Tensor]:
        """Return the momentum encoder's features (B, F), one tensor a view it encodes; empty if there is none."""
        wanted = range(len(views)) if self.method.target_views is None else self.method.target_views
        features = []
        for index in wanted:
            with self._seeded(batch.step, part.start, index, 1), self.autocast():
                target = self.method.target(views[index])
            if target is not None:
                features.append(_at_least_float32(target.detach()))
        return features

    @contextmanager
    def _seeded(self, *key: int) -> Iterator[None]:
        device = next(self.method.parameters()).device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            seed = int(mix(self.seed, *key) >> 1)
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed other GPUs, too
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            yield


def view_bytes(device: torch.device) -> int:
    """Return how much memory the views of a window may take between its passes."""
    if device.type != "cuda":
        return VIEW_BYTES
    return max(VIEW_BYTES, int(VIEW_SHARE * torch.cuda.max_memory_allocated(device)))


def _at_least_float32(features: Tensor) -> Tensor:
    return features.float() if features.dtype in (torch.bfloat16, torch.float16) else features

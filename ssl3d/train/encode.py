"""Views and features of micro-batches: reproducible for repeated requests and any split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from ssl3d.data.rng import Rng, Stream, mix
from ssl3d.data.volumes import Volumes
from ssl3d.errors import PluginError
from ssl3d.method import AnyMethod, Batch, Features, Views
from ssl3d.train.join import map_features
from ssl3d.train.prefetch import Prefetch
from ssl3d.train.returned import checked_features, checked_views
from ssl3d.train.tuning.layout import in_layout

VIEW_BYTES = 16 * 2**20  # larger views of a window are made again instead of kept between the passes
VIEW_SHARE = 0.05  # of the peak memory of a GPU so far, if that is more


class Source(Protocol):
    """A source of volumes: a corpus."""

    def volumes(self, indices: Sequence[int], device: torch.device) -> Volumes:
        """Return the volumes with these indices, on the device."""

    def rows(self, names: Iterable[str], indices: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """Return a method's inputs beyond voxels ("labels", "patient", "case") for these volumes: (B, ...) by name."""


@dataclass(frozen=True)
class EffectiveBatch:
    """The volumes behind one optimiser step.

    Attributes:
        indices: their indices in the source.
        step: the optimiser step, from 0.
        progress: fraction of the training done before it, in [0, 1).
    """

    indices: Sequence[int]
    step: int
    progress: float = 0.0

    def __len__(self) -> int:
        return len(self.indices)


Part = range  # the positions in an effective batch that form a micro-batch


@dataclass
class BatchEncoder:
    """Encoder of the micro-batches of an effective batch into views and features.

    Views depend on (seed, step, position) alone. Random draws while a method runs (dropout, stochastic depth, noise)
    are seeded by step, part, view and network, so that encoding a part again gives the same features; the states of the
    global generators are restored.

    Attributes:
        method: makes the views and encodes them.
        source: provides volumes and their rows by index.
        seed: seed of the recipe.
        autocast: precision of the backbone.
        channels_last: memory layout of the views.
        keeps: whether views are kept from the first pass to the second; decided when the first part's views are made.
        drew: whether draws from a global generator depended on the split; detected only if set to False first.
    """

    method: AnyMethod
    source: Source
    seed: int = 0
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    channels_last: bool = False
    keeps: bool = False
    drew: bool | None = None
    _views: dict[Part, Views] = field(default_factory=dict)
    _decided: bool = False
    _prefetch: Prefetch[tuple[EffectiveBatch, Part]] | None = None

    def views(self, batch: EffectiveBatch, part: Part, parts: int = 1) -> Views:
        """Return the views of a part, one of ``parts`` parts of similar size, with all rows that the method needs."""
        if part in self._views:
            return self._views[part]
        views = self._make((batch, part)) if self._prefetch is None else self._prefetch.get((batch, part))
        size = sum(view.numel() * view.element_size() for view in views.tensors)
        if not self._decided:  # for the whole window: the prefetch relies on it
            self.keeps, self._decided = parts * size <= view_bytes(views.tensors[0].device), True
        if self.keeps:
            self._views[part] = views
        return views

    def prefetch(self, requests: Iterator[tuple[EffectiveBatch, Part]]) -> None:
        """Start making views ahead, in the order in which they will be requested, until :meth:`close`."""
        if self._prefetch is None:
            self._prefetch = Prefetch(self._make, next(self.method.parameters()).device)
        self._prefetch.follow(requests)

    def close(self) -> None:
        """Stop making views ahead."""
        if self._prefetch is not None:
            self._prefetch.close()
            self._prefetch = None

    def forget(self) -> None:
        """Drop the views that were kept, because the next effective batch begins."""
        self._views.clear()
        self._decided = False

    def features(self, batch: EffectiveBatch, part: Part, parts: int = 1) -> Batch:
        """Return the input of the loss for a part; online features have gradients if those are enabled."""
        return self.features_of(batch, part, self.views(batch, part, parts))

    def features_of(self, batch: EffectiveBatch, part: Part, views: Views) -> Batch:
        """Return the input of the loss for a part whose views are given."""
        return Batch(
            online_features=tuple(self.online(batch, part, views, place) for place in range(self.online_count(views))),
            target_features=self.targets(batch, part, views),
            rows=views.rows,
            view_rows=views.view_rows,
            progress=batch.progress,
        )

    def online(self, batch: EffectiveBatch, part: Part, views: Views, place: int) -> Features:
        """Return features (B, ...), at least float32, of the view at index ``place`` among those ``online`` encodes."""
        chosen = self.method.online_views
        features = self._run("online", batch, part, views, place if chosen is None else chosen[place])
        assert features is not None
        return features

    def online_count(self, views: Views) -> int:
        """Return the number of views that ``online`` encodes."""
        return len(views) if self.method.online_views is None else len(self.method.online_views)

    def targets(self, batch: EffectiveBatch, part: Part, views: Views) -> tuple[Features, ...]:
        """Return the features (B, ...) of each view that ``target`` encodes; empty if it returns None."""
        wanted = range(len(views)) if self.method.target_views is None else self.method.target_views
        features = (self._run("target", batch, part, views, index) for index in wanted)
        return tuple(one for one in features if one is not None)

    def _run(self, function: str, batch: EffectiveBatch, part: Part, views: Views, index: int) -> Features | None:
        view, rows = views.tensors[index], views.view_rows[index]
        if function == "target":
            with torch.no_grad(), self.seeded(Stream.TARGET, batch.step, part, index), self.autocast():
                features = self.method.target(view, rows)
            if features is None:
                return None
        else:
            with self.seeded(Stream.ONLINE, batch.step, part, index), self.autocast():
                features = self.method.online(view, rows)
        features = checked_features(self.method, function, features, len(part))
        return map_features(_at_least_float32 if function == "online" else _without_gradient, features)

    def _make(self, request: tuple[EffectiveBatch, Part]) -> Views:
        """Return the views of a part in the dtype of the weights and the layout of the recipe."""
        batch, part = request
        indices = [batch.indices[position] for position in part]
        weight = next(self.method.parameters())
        rng = Rng(self.seed, batch.step, part, weight.device)
        volumes = self.source.volumes(indices, weight.device)
        views = checked_views(self.method, self.method.views(volumes, rng), len(part))
        needed = self.source.rows(self.method.needs, indices, weight.device) if self.method.needs else {}
        twice = sorted(set(needed) & {name for rows in views.view_rows for name in rows})
        if twice:
            raise PluginError(f"{type(self.method).__name__}.views: the data set gives rows {twice[0]!r}; rename yours")
        return _prepared(views, needed, weight, self.channels_last)

    @contextmanager
    def seeded(self, stream: Stream, step: int, part: Part, *key: int) -> Iterator[None]:
        """Seed the global generators by step, part and key inside, and restore them afterwards."""
        device = next(self.method.parameters()).device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            seed = int(mix(stream, self.seed, step, part.start, *key) >> 1)
            seed_generators(device, seed)
            # Draws in a coupled loss do not depend on the split: it sees all volumes at once.
            notices = self.drew is False and not (stream == Stream.LOSS and self.method.coupled)
            before = _generators(device) if notices else []
            yield
            if notices:
                self.drew = any(not torch.equal(*pair) for pair in zip(before, _generators(device), strict=True))


def view_bytes(device: torch.device) -> int:
    """Return the memory in bytes that the views of a window may occupy between its passes."""
    if device.type != "cuda":
        return VIEW_BYTES
    return max(VIEW_BYTES, int(VIEW_SHARE * torch.cuda.max_memory_allocated(device)))


def _prepared(views: Views, needed: dict[str, Tensor], like: Tensor, channels_last: bool) -> Views:
    """Return views and rows, including the source's, on the device and with the floating-point dtype of a tensor."""
    moved = {
        id(row): row.to(like) if row.is_floating_point() else row.to(like.device)
        for rows in (needed, views.rows, *views.view_rows)
        for row in rows.values()
    }  # a row of the volumes stays one tensor in all views
    made = Views(*(in_layout(view.to(like), channels_last) for view in views.tensors))
    made.rows = {name: moved[id(row)] for name, row in {**views.rows, **needed}.items()}
    made.view_rows = tuple(
        {**made.rows, **{name: moved[id(row)] for name, row in rows.items()}} for rows in views.view_rows
    )
    return made


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed the global generators of the CPU and of one GPU; torch.manual_seed would also reseed other GPUs."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _generators(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _at_least_float32(features: Tensor) -> Tensor:
    return features.float() if features.dtype in (torch.bfloat16, torch.float16) else features


def _without_gradient(features: Tensor) -> Tensor:
    return _at_least_float32(features.detach())

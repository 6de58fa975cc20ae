"""Joining the tensors of micro-batches into those of the effective batch, and mapping over all tensors of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from ssl3d.method import Batch, Features, Rows


def map_features(function: Callable[..., Tensor], *features: Features) -> Features:
    """Apply a function to the tensor, or to each tensor by name, of features with the same structure."""
    if isinstance(features[0], Tensor):
        return function(*features)
    return map_rows(function, *[one for one in features if not isinstance(one, Tensor)])


def tensors(features: Features) -> list[Tensor]:
    """Return the tensor, or the tensors by name, as a list."""
    return [features] if isinstance(features, Tensor) else list(features.values())


def map_rows(function: Callable[..., Tensor], *rows: Rows) -> dict[str, Tensor]:
    """Apply a function to the rows that share a name."""
    return {name: function(*(one[name] for one in rows)) for name in rows[0]}


def join_batches(parts: Sequence[Batch], join: Callable[..., Tensor]) -> Batch:
    """Join micro-batches into one batch.

    Args:
        parts: parts of one effective batch, in the order of their volumes.
        join: joins corresponding tensors into one.
    """
    first = parts[0]
    rows = map_rows(join, *[part.rows for part in parts])
    return Batch(
        online_features=_map_views(join, [part.online_features for part in parts]),
        target_features=_map_views(join, [part.target_features for part in parts]),
        rows=rows,
        view_rows=tuple(
            {**rows, **map_rows(join, *[_own(part.view_rows[view], part.rows) for part in parts])}
            for view in range(len(first.view_rows))
        ),
        progress=first.progress,
    )


def map_batch(function: Callable[[Tensor], Tensor], batch: Batch) -> Batch:
    """Apply a function to every tensor of a batch."""
    return join_batches([batch], function)


def _map_views(join: Callable[..., Tensor], parts: Sequence[tuple[Features, ...]]) -> tuple[Features, ...]:
    return tuple(map_features(join, *views) for views in zip(*parts, strict=True))


def _own(view: Mapping[str, Tensor], shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the rows that belong to a view only; those of its volumes are joined once."""
    return {name: row for name, row in view.items() if row is not shared.get(name)}

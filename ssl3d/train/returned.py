"""Checks of the values that a method's functions return: one sentence names the function and what to return."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ssl3d.errors import PluginError
from ssl3d.method import AnyMethod, Features, Loss, Rows, Views


def checked_views(method: AnyMethod, views: object, volumes: int) -> Views:
    """Return ``views`` if they are :class:`Views` and each tensor has one row per volume.

    Raises:
        PluginError: they are not.
    """
    where = f"{_name(method)}.views"
    if not isinstance(views, Views) or not views.tensors:
        raise PluginError(f"{where} returned {_kind(views)}; return Views(first, second, ...)")
    for index, (view, rows) in enumerate(zip(views.tensors, views.view_rows, strict=True)):
        if view.ndim != 5 or len(view) != volumes:
            raise PluginError(
                f"{where}: view {index} has shape {tuple(view.shape)}; return (B, C, D, H, W) for the {volumes} volumes"
            )
        _check_rows(where, rows, volumes)
    return views


def checked_features(method: AnyMethod, function: str, features: object, volumes: int) -> Features:
    """Return ``features`` if they are a tensor, or tensors by name, with one row per volume.

    Raises:
        PluginError: they are not.
    """
    where = f"{_name(method)}.{function}"
    if isinstance(features, Tensor):
        _check_rows(where, {"features": features}, volumes)
        return features
    if isinstance(features, Mapping) and features:
        return dict(_check_rows(where, features, volumes))
    raise PluginError(f"{where} returned {_kind(features)}; return features (B, ...), or several of them by name")


def checked_loss(method: AnyMethod, loss: object, volumes: int) -> Loss:
    """Return ``loss`` if it is a :class:`Loss` with a scalar value and one row per volume.

    Raises:
        PluginError: it is not.
    """
    where = f"{_name(method)}.loss"
    if not isinstance(loss, Loss):
        raise PluginError(f"{where} returned {_kind(loss)}; return Loss(value)")
    scalars = {"value": loss.value, **loss.scalars}
    for name, value in scalars.items():
        if not isinstance(value, Tensor) or value.ndim:
            shape = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"type {type(value).__name__}"
            raise PluginError(f"{where}: {name!r} has {shape}; return a scalar tensor, such as a mean over volumes")
    _check_rows(where, loss.rows, volumes)
    return loss


def _check_rows(where: str, rows: Rows, volumes: int) -> Rows:
    for name, row in rows.items():
        if not isinstance(row, Tensor):
            raise PluginError(f"{where}: {name!r} is {_kind(row)}; return a tensor with one row per volume")
        if not row.ndim or len(row) != volumes:
            raise PluginError(
                f"{where}: {name!r} has shape {tuple(row.shape)}; return one row for each of the {volumes} volumes"
            )
    return rows


def _name(method: AnyMethod) -> str:
    return type(method).__name__


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"

"""Small values for wide settings, so that a check takes seconds: hidden_dim, queue_size, number of prototypes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annotated_types import Ge, Gt, MultipleOf
from pydantic.fields import FieldInfo

from ssl3d.config import Config
from ssl3d.errors import RecipeError

WIDE = 64  # whole numbers above this are made small
LONG, SHORT = ("epochs", "steps"), 2  # numbers of these become small, however few there are
SMALL = 48  # divides by 2, 3, 4, 6, 8, 12 and 16: numbers of heads, and the 3 axes of position embeddings


def shrink(config: type[Config], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return small values of the fields whose defaults are wide, as far as their bounds allow.

    Args:
        config: class of the settings.
        settings: those that were chosen; they are left alone.
    """
    small: dict[str, Any] = {}
    for name, field in config.model_fields.items():
        value = _small(name, field)
        if name in settings or value is None:
            continue
        try:
            config.checked({**settings, **small, name: value})
        except RecipeError:
            continue
        small[name] = value
    return small


def describe(config: type[Config], small: Mapping[str, Any]) -> str:
    """Return what was made small, as a remark: "made small for the check: hidden_dim = 48 (default 4096)"."""
    changes = [f"{name} = {value} (default {config.model_fields[name].default})" for name, value in small.items()]
    return f"made small for the check: {', '.join(changes)}" if changes else ""


def _small(name: str, field: FieldInfo) -> Any:
    """A small value of a field, or None if it is not a whole number, or small already."""
    default = field.default
    if type(default) is int and name.endswith(LONG):
        return SHORT if default > SHORT else None
    if isinstance(default, tuple) and default and all(type(one) is int and one > WIDE for one in default):
        return (SMALL,) * len(default)
    if type(default) is not int or default <= WIDE:
        return None
    value = SMALL
    for bound in field.metadata:
        if isinstance(bound, Ge):
            value = max(value, int(bound.ge))  # type: ignore[call-overload]
        if isinstance(bound, Gt):
            value = max(value, int(bound.gt) + 1)  # type: ignore[call-overload]
    for bound in field.metadata:
        if isinstance(bound, MultipleOf):
            step = int(bound.multiple_of)  # type: ignore[call-overload]
            value = -(-value // step) * step
    return value if value < default else None

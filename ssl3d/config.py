"""The base of every configuration: frozen, bounded, described, and helpful about typos."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ssl3d.errors import RecipeError, nearest


class Config(BaseModel):
    """A frozen set of settings. Every field has a default, bounds and a description.

    >>> class Example(Config):
    ...     momentum: float = Field(0.996, ge=0, le=1, description="weight of the old momentum encoder")
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @classmethod
    def checked(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Build from plain values; the first fault becomes one sentence.

        Args:
            values: nested plain values, as read from TOML.
            where: put in front of the field's name in the message ("byol.momentum").

        Raises:
            RecipeError: an unknown field (the nearest is suggested), a wrong type, or a value out of bounds.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise RecipeError(_sentence(cls, error, where)) from None


def _sentence(model: type[BaseModel], error: ValidationError, where: str) -> str:
    errors = error.errors(include_url=False)
    first = errors[0]
    path = _place(model, first["loc"])
    field = ".".join([where, *path] if where else path)
    if first["type"] == "extra_forbidden":
        return f"unknown field {field!r}{nearest(path[-1], _fields(model, path[:-1]))}"
    if first["type"] == "value_error":
        return f"{field or model.__name__}: {first['ctx']['error']}"
    # A field of several types fails once for each of them.
    said = [found["msg"].lower() for found in errors if _place(model, found["loc"]) == path]
    said = [text.replace("a valid tuple", "a list, as in [1, 2]") for text in dict.fromkeys(said)]
    also = [text.removeprefix("input should be ") for text in said[1:]]
    return f"{field} = {first['input']!r}: {' or '.join([said[0], *also])}"


def _place(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The names and numbers a user wrote, without the types that pydantic adds below a field of several."""
    path: list[str] = []
    inner: type[BaseModel] | None = model
    for part in location:
        if inner is None and isinstance(part, str):
            continue
        path.append(str(part))
        if inner is not None:
            found = inner.model_fields[str(part)].annotation if str(part) in inner.model_fields else None
            inner = found if isinstance(found, type) and issubclass(found, BaseModel) else None
    return path


def _fields(model: type[BaseModel], path: list[str]) -> list[str]:
    """Names of the fields of the nested model at ``path``."""
    for part in path:
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)

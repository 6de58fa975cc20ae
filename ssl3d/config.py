"""Base class of all configurations: frozen, bounded, documented, with suggestions for misspelt fields."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ssl3d.errors import RecipeError, nearest


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the first of ({bounds[0]:g}, {bounds[1]:g}) must not be larger than the second")
    return bounds


Ordered = AfterValidator(_ordered)  # of a range: ``Annotated[tuple[Share, Share], Ordered]``


class Config(BaseModel):
    """A frozen set of settings. Every field has a default, bounds and a description.

    >>> class Example(Config):
    ...     momentum: float = Field(0.996, ge=0, le=1, description="weight of the old momentum encoder")
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _strict_scalars(cls, values: Any) -> Any:
        """Refuse pydantic's conversions between 1 and true, and of "1" to 1; lists still become tuples."""
        if isinstance(values, Mapping):
            for name, value in values.items():
                fault = _fault(value, _scalars(cls, name)) if name in cls.model_fields else None
                if fault is not None:
                    path, found, takes = fault
                    context = {"path": [name, *path], "found": found, "takes": takes}
                    raise PydanticCustomError("wrong_type", "{takes}", context)
        return values

    @classmethod
    def checked(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Build from plain values; report the first error in one sentence.

        Args:
            values: nested plain values, as read from TOML.
            where: prefix of the field's name in messages ("byol.momentum").

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
    path = _place(model, first["loc"]) + list(first.get("ctx", {}).get("path", []))
    field = ".".join([where, *path] if where else path)
    if first["type"] == "extra_forbidden":
        return f"unknown field {field!r}{nearest(path[-1], _fields(model, path[:-1]))}"
    if first["type"] == "value_error":
        return f"{field or model.__name__}: {first['ctx']['error']}"
    if first["type"] == "wrong_type":
        return f"{field} = {first['ctx']['found']!r}: input should be {first['ctx']['takes']}"
    # A field of several types fails once for each type.
    said = [found["msg"].lower() for found in errors if _place(model, found["loc"]) == path]
    said = [text.replace("a valid tuple", "a list, as in [1, 2]") for text in dict.fromkeys(said)]
    also = [text.removeprefix("input should be ") for text in said[1:]]
    return f"{field} = {first['input']!r}: {' or '.join([said[0], *also])}"


def _place(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the names and indices the user wrote, without the type names that pydantic adds for union fields."""
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


@cache
def _scalars(model: type[BaseModel], name: str) -> frozenset[type | str]:
    """Return the types and words a field accepts as single values, in lists or not; empty if it accepts anything."""
    return frozenset(_leaves(model.model_fields[name].annotation))


def _leaves(annotation: Any) -> set[type | str]:
    if get_origin(annotation) is Literal:
        return {value if isinstance(value, str) else type(value) for value in get_args(annotation)}
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return set()
    if not arguments:
        return {annotation} & {bool, int, float, str}
    return set().union(*(_leaves(part) for part in arguments))


def _fault(value: Any, takes: frozenset[type | str]) -> tuple[list[str], Any, str] | None:
    """Return where a value has the wrong type, the value, and what is accepted there; None if all types are right."""
    if isinstance(value, list | tuple):
        for index, part in enumerate(value):
            fault = _fault(part, takes)
            if fault is not None:
                return [str(index), *fault[0]], fault[1], fault[2]
        return None
    wrong = _wrong_type(value, takes)
    return None if wrong is None else ([], value, wrong)


def _wrong_type(value: Any, takes: frozenset[type | str]) -> str | None:
    """Return what is accepted instead of a single value; None if pydantic decides."""
    words = sorted(word for word in takes if isinstance(word, str))
    numbers, truth = bool(takes & {int, float}), bool in takes
    if isinstance(value, bool):
        return "a number, neither true nor false" if numbers and not truth else None
    if isinstance(value, str):
        if value in takes or str in takes:
            return None
        if numbers:  # options pass numbers as text where a word is also accepted
            return None if words else "a number, not text"
    elif not isinstance(value, int | float) or numbers:
        return None
    return " or ".join(["true or false", *map(repr, words)]) if truth else None

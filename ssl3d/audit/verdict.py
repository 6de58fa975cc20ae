"""The findings of a check: sentences, and differences of single values. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from ssl3d.errors import UserError

TOLERANCE = 1e-9  # for values between 0 and 1: above rounding and differences between library versions
T = TypeVar("T")


@dataclass(frozen=True)
class Difference:
    """One value that differs from the expected one.

    Attributes:
        file: name of the file that holds it.
        field: its dotted path in the file.
        recorded: value in the file.
        recomputed: expected value.
    """

    file: str
    field: str
    recorded: Any
    recomputed: Any

    def __str__(self) -> str:
        return f"{self.file}, {self.field}: recorded {_text(self.recorded)}, recomputed {_text(self.recomputed)}"


@dataclass(frozen=True)
class Verdict:
    """The findings on one artifact or table.

    Attributes:
        name: path of the artifact's folder, or of the table, below the run.
        said: one or two words, or why there is nothing to check.
        faults: sentences on faults other than single values.
        differences: differences of single values.
        notes: sentences on what could not be checked, which is not a fault.
    """

    name: str
    said: str = "same"
    faults: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether no fault was found."""
        return not self.faults and not self.differences

    def line(self) -> str:
        """Return the verdict in one line, with its faults and differences below."""
        said = self.said if self.sound else "differs" if self.differences else "damaged"
        below = [*self.faults, *map(str, self.differences)]
        return "\n".join([f"{self.name}: {said}", *(f"  {text}" for text in below), *(f"  ({n})" for n in self.notes)])

    def json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "said": self.said if self.sound else "differs", "sound": self.sound}


@dataclass
class Findings:
    """A collector of the findings of a check."""

    faults: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def compare(self, file: str, field: str, recorded: Any, recomputed: Any) -> None:
        """Add every difference of two nested plain values."""
        self.differences += differences(file, field, recorded, recomputed)

    def attempt(self, function: Callable[..., T], *arguments: Any) -> T | None:
        """Return the result of a function; if it raises UserError, add the message to the faults and return None."""
        try:
            return function(*arguments)
        except UserError as error:
            self.faults.append(str(error))
            return None

    def verdict(self, name: str, said: str = "same") -> Verdict:
        """Return the findings as a verdict."""
        faults = tuple(dict.fromkeys(self.faults))
        return Verdict(name, said, faults, tuple(self.differences), tuple(dict.fromkeys(self.notes)))


def differences(file: str, field: str, recorded: Any, recomputed: Any) -> Iterator[Difference]:
    """Yield the differences of two nested plain values, of numbers if above :data:`TOLERANCE`."""
    if isinstance(recorded, Mapping) and isinstance(recomputed, Mapping):
        for name in dict.fromkeys([*recorded, *recomputed]):
            inner = f"{field}.{name}" if field else str(name)
            yield from differences(file, inner, recorded.get(name), recomputed.get(name))
    elif _listed(recorded) and _listed(recomputed) and len(recorded) == len(recomputed):
        for index, (a, b) in enumerate(zip(recorded, recomputed, strict=True)):
            yield from differences(file, f"{field}.{index}", a, b)
    elif not same(recorded, recomputed):
        yield Difference(file, field, recorded, recomputed)


def same(a: Any, b: Any) -> bool:
    """Return whether two plain values are equal, numbers up to rounding."""
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (a, b)]
    if all(numbers):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(a == b)


def _listed(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _text(value: Any) -> str:
    return "nothing" if value is None else f"{value:.12g}" if isinstance(value, float) else str(value)

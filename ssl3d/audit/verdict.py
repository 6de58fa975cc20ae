"""What a check found: sentences, and differences of single values. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from ssl3d.errors import UserError

TOLERANCE = 1e-9  # of figures between 0 and 1: above rounding and what other versions of the libraries may change
T = TypeVar("T")


@dataclass(frozen=True)
class Difference:
    """One value that is not what it should be.

    Attributes:
        file: name of the file that holds it.
        field: where in it, dotted.
        recorded: what the file says.
        recomputed: what it should say.
    """

    file: str
    field: str
    recorded: Any
    recomputed: Any

    def __str__(self) -> str:
        return f"{self.file}, {self.field}: recorded {_text(self.recorded)}, recomputed {_text(self.recomputed)}"


@dataclass(frozen=True)
class Verdict:
    """What was found of one artifact or table.

    Attributes:
        name: path of the artifact's folder, or of the table, below the run.
        said: one or two words, or why there is nothing to check.
        faults: sentences on what is wrong besides single values.
        differences: of single values.
        notes: sentences on what could not be checked; these are not faults.
    """

    name: str
    said: str = "same"
    faults: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
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
    """Collects what a check finds."""

    faults: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def compare(self, file: str, field: str, recorded: Any, recomputed: Any) -> None:
        """Add every difference of two nested plain values."""
        self.differences += differences(file, field, recorded, recomputed)

    def attempt(self, function: Callable[..., T], *arguments: Any) -> T | None:
        """Return what a function returns; where it raises UserError, add its message to the faults and return None."""
        try:
            return function(*arguments)
        except UserError as error:
            self.faults.append(str(error))
            return None

    def verdict(self, name: str, said: str = "same") -> Verdict:
        """Return what was found."""
        faults = tuple(dict.fromkeys(self.faults))
        return Verdict(name, said, faults, tuple(self.differences), tuple(dict.fromkeys(self.notes)))


def differences(file: str, field: str, recorded: Any, recomputed: Any) -> Iterator[Difference]:
    """Yield where two nested plain values differ, numbers by more than :data:`TOLERANCE`."""
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
    """Whether two plain values are equal, numbers up to rounding."""
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (a, b)]
    if all(numbers):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(a == b)


def _listed(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _text(value: Any) -> str:
    return "nothing" if value is None else f"{value:.12g}" if isinstance(value, float) else str(value)

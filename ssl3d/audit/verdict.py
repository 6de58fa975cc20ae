"""What a check of a cell or of a table found: sentences, and differences of single values. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

TOLERANCE = 1e-9  # of figures between 0 and 1: below what other versions of the libraries may change, above rounding


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
    """What was found of one cell or table.

    Attributes:
        name: of the cell, or of the table's file.
        said: one or two words, or why there is nothing to check.
        faults: sentences on what is wrong beside single values.
        differences: of single values.
        notes: sentences on what could not be checked; they are no fault.
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
        """Return the verdict in one line, its faults and differences below."""
        said = self.said if self.sound else "differs" if self.differences else "damaged"
        below = [*self.faults, *map(str, self.differences)]
        return "\n".join([f"{self.name}: {said}", *(f"  {text}" for text in below), *(f"  ({n})" for n in self.notes)])

    def json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "said": self.said if self.sound else "differs", "sound": self.sound}


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
    """Whether two plain values are the same, numbers but for rounding."""
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (a, b)]
    if all(numbers):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(a == b)


def _listed(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _text(value: Any) -> str:
    return "nothing" if value is None else f"{value:.12g}" if isinstance(value, float) else str(value)

"""Faults of a data set: each has a place and a sentence; repeated ones are folded into one line. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ssl3d.errors import DataError, printable

LISTED = 3  # places with the same fault that are listed one by one


@dataclass(frozen=True)
class Fault:
    """A fault of one row, file or patient.

    Attributes:
        place: file and row ("labels.csv row 7 (a.nii.gz)").
        sentence: what is wrong and what to do, without naming the place, so that equal faults have equal sentences.
    """

    place: str
    sentence: str

    def __str__(self) -> str:
        return printable(f"{self.place}: {self.sentence}")


class DataFaultsError(DataError):
    """Several faults of one data set; the message is the first one and counts the others.

    Attributes:
        faults: one sentence each; a fault that occurs in many places is one sentence with their number.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(folded(faults))
        others = len(self.faults) - 1
        more = f" (and {others} more: `ssl3d data check` lists them all)" if others else ""
        super().__init__(self.faults[0] + more)


def folded(faults: Iterable[Fault]) -> list[str]:
    """Return one line per fault, in order; a sentence shared by more than three places is one line with their number.

    >>> folded([Fault(f"row {row}", "no such split") for row in range(5)])
    ['row 0 and 4 more like it: no such split']
    """
    places: dict[str, list[str]] = {}
    for fault in faults:
        places.setdefault(fault.sentence, []).append(fault.place)
    lines: list[str] = []
    for sentence, found in places.items():
        listed = [f"{found[0]} and {len(found) - 1} more like it"] if len(found) > LISTED else found
        lines += [str(Fault(place, sentence)) for place in listed]
    return lines

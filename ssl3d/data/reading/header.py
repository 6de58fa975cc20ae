"""The header of a table of volumes: which columns are labels, and their kinds of task. Loads no torch."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal, get_args

from ssl3d.data.reading.csv_table import Row
from ssl3d.errors import DataError, nearest, quoted, shortened
from ssl3d.task import Kind

RESERVED = ("path", "split", "patient", "exam")  # never labels
DESCRIBING = ("age", "sex", "site")  # labels only if the header gives them a kind
HELP = "expected is a table with a column 'path', one column per label, and a column 'split' (train, val, test)"
_CELL = re.compile(r"(?P<name>[^:]+)(?::\s*(?P<kind>\w+)\s*(?:\((?P<argument>[^()]*)\))?)?")


@dataclass(frozen=True)
class Column:
    """A column of labels, as declared in the header.

    Attributes:
        place: index of its fields in a row.
        name: name of the label.
        kind: kind of its task; None if it is inferred from the values.
        argument: bracketed text after the kind: the ordered classes ("mild<moderate<severe"), the unit of a regression,
            or the multi-label task that the label belongs to.
    """

    place: int
    name: str
    kind: Kind | None = None
    argument: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes listed in the header, from class 0 upwards."""
        return tuple(part.strip() for part in self.argument.split("<")) if self.argument else ()

    @property
    def task(self) -> str:
        """Name of the task that the column defines or belongs to."""
        return self.argument if self.kind == "multilabel" else self.name


@dataclass(frozen=True)
class Header:
    """The columns of a table.

    Attributes:
        width: number of columns.
        places: indices of the reserved columns that the table has, by name.
        labels: the remaining columns except those that describe a patient, in order.
    """

    width: int
    places: dict[str, int]
    labels: tuple[Column, ...]


def parse_header(table: str, row: Row) -> Header:
    """Read the first row of a table.

    Args:
        table: its name in messages.
        row: the first row.

    Raises:
        DataError: there is no column "path", a column has no name, two have the same name, or a kind is unknown.
    """
    where = f"{table} row {row.number}"
    if "path" not in (field.partition(":")[0].strip().lower() for field in row.fields):
        raise DataError(f"{where}: the header is {quoted(','.join(row.fields))}, without a column 'path'; {HELP}")
    columns = [_column(place, text, where) for place, text in enumerate(row.fields)]
    lower = [column.name.lower() for column in columns]
    counts = Counter(lower)
    places: dict[str, int] = {}
    labels: list[Column] = []
    for column, name in zip(columns, lower, strict=True):
        if counts[name] > 1:
            raise DataError(f"{where}: the header names the column {quoted(column.name)} twice; rename one of the two")
        if name in RESERVED:
            if column.kind is not None:
                raise DataError(f"{where}: {quoted(column.name)} cannot be a label; rename it, or leave out its kind")
            places[name] = column.place
        elif name not in DESCRIBING or column.kind is not None:
            labels.append(column)
    _require_distinct_tasks(where, labels)
    return Header(len(columns), places, tuple(labels))


def _column(place: int, text: str, where: str) -> Column:
    match = _CELL.fullmatch(text)
    if match is None:
        wrong = f"the header of column {place + 1} is {quoted(text)}" if text else f"column {place + 1} has no name"
        raise DataError(f"{where}: {wrong}; write NAME, NAME:KIND or NAME:ordinal(LOW<HIGH)")
    name, kind, argument = match["name"].strip(), match["kind"], (match["argument"] or "").strip()
    column = Column(place, name, _kind(kind, text, where), argument)
    if column.kind == "multilabel" and not argument:
        raise DataError(
            f"{where}: {quoted(text)} does not say of which task it is a label; write "
            f"{shortened(name)}:multilabel(TASK)"
        )
    if column.kind not in {None, "multilabel", "regression"} and argument:
        if len(set(column.classes)) < max(2, len(column.classes)) or "" in column.classes:
            raise DataError(
                f"{where}: {quoted(text)} needs two or more different classes, as in {shortened(name)}:{kind}(LOW<HIGH)"
            )
        if column.kind == "binary" and len(column.classes) != 2:
            raise DataError(f"{where}: {quoted(text)} names {len(column.classes)} classes, and a binary task has two")
    return column


def _kind(kind: str | None, text: str, where: str) -> Kind | None:
    known: tuple[Literal["binary", "multiclass", "multilabel", "ordinal", "regression"], ...] = get_args(Kind)
    for name in known:
        if kind == name:
            return name
    if kind is not None:
        raise DataError(
            f"{where}: {quoted(text)} names the kind {quoted(kind)}, which is unknown{nearest(kind, known)}"
        )
    return None


def _require_distinct_tasks(where: str, labels: list[Column]) -> None:
    kinds: dict[str, bool] = {}
    for column in labels:
        several = column.kind == "multilabel"
        if kinds.setdefault(column.task, several) != several:
            raise DataError(
                f"{where}: {quoted(column.task)} is both a label and a multi-label task; rename one of the two"
            )

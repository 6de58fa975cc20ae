"""Columns of labels as tasks and targets: kinds and classes come from the header, or else from the values.

Loads no torch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ssl3d.data.faults import Fault
from ssl3d.data.reading.header import Column
from ssl3d.errors import quoted, shortened
from ssl3d.task import Target, Task

UNKNOWN = ("", "na", "n/a", "nan", "null")  # fields without a label, case-insensitive
MANY = 10  # classes; with more, a class with few cases is more likely to be a number or a name
FEWEST = 5  # cases per class on average, if there are many classes
OLDEST = 120  # years
LARGEST = 999  # largest whole number accepted as a class
MOST_TEXT = 200  # maximum characters of a list in a message


@dataclass
class Labels:
    """Tasks of a table, and the targets of its rows.

    Attributes:
        tasks: in the order of their columns.
        targets: by task, one mapping per row.
        faults: faults of columns, at the header.
        row_faults: faults of fields, as (row, sentence).
    """

    tasks: list[Task] = field(default_factory=list)
    targets: list[dict[str, Target]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    row_faults: list[tuple[int, str]] = field(default_factory=list)


class ColumnError(Exception):
    """A column cannot be a task; the message is the sentence of its fault."""


def read_labels(columns: Sequence[Column], rows: Sequence[Sequence[str]], where: str) -> Labels:
    """Turn columns of text into tasks and targets.

    Args:
        columns: columns of labels.
        rows: the fields of every row.
        where: place of the header, for faults.
    """
    labels = Labels(targets=[{} for _ in rows])
    groups: dict[str, list[Column]] = {}
    for column in columns:
        groups.setdefault(column.task, []).append(column)
    for name, parts in groups.items():
        texts = [[_known(row[column.place]) for row in rows] for column in parts]
        try:
            if parts[0].kind == "multilabel":
                _add_multilabel(labels, name, parts, texts)
            elif parts[0].kind == "regression":
                _add_regression(labels, parts[0], texts[0])
            else:
                _add_classes(labels, parts[0], texts[0])
        except ColumnError as error:
            labels.faults.append(Fault(where, str(error)))
    return labels


def _known(text: str) -> str:
    """Return a field, or an empty text if its label is unknown."""
    return "" if text.lower() in UNKNOWN else text


def _add_multilabel(labels: Labels, name: str, parts: Sequence[Column], texts: Sequence[Sequence[str]]) -> None:
    labels.tasks.append(Task(name=name, kind="multilabel", classes=tuple(column.name for column in parts)))
    for row, fields in enumerate(zip(*texts, strict=True)):
        values = [_number(text) for text in fields]
        if all(value in {0, 1} for value in values):
            labels.targets[row][name] = tuple(int(value) for value in values if value is not None)
        elif any(fields):
            wrong = ", ".join(
                f"{shortened(column.name)} = {quoted(text)}" for column, text in zip(parts, fields, strict=True)
            )
            are = f"the labels of {quoted(name)} are {shortened(wrong, MOST_TEXT)}"
            labels.row_faults.append((row, f"{are}; give 0 or 1 for each, or leave all empty"))


def _add_regression(labels: Labels, column: Column, texts: Sequence[str]) -> None:
    labels.tasks.append(Task(name=column.name, kind="regression", classes=(), unit=column.argument or None))
    for row, text in enumerate(texts):
        value = _number(text)
        if value is not None:
            labels.targets[row][column.name] = value
        elif text:
            wrong = f"{quoted(text)} is not a number for {quoted(column.name)}"
            labels.row_faults.append((row, f"{wrong}; correct it (2.5, not 2,5) or leave it empty"))


def _add_classes(labels: Labels, column: Column, texts: Sequence[str]) -> None:
    names = [_class_name(text) for text in texts]
    classes = _declared(column, names) if column.kind else _inferred(column, names)
    kind = column.kind or ("binary" if len(classes) == 2 else "multiclass")
    labels.tasks.append(Task(name=column.name, kind=kind, classes=classes))
    places = {name: place for place, name in enumerate(classes)}
    for row, name in enumerate(names):
        if name in places:
            labels.targets[row][column.name] = places[name]
        elif name:
            labels.row_faults.append((row, _not_a_class(column, name, classes)))


def _not_a_class(column: Column, name: str, classes: Sequence[str]) -> str:
    sentence = f"{quoted(name)} is not a class of {quoted(column.name)} ({_all(classes)}); correct it or leave it empty"
    if column.kind:
        return sentence
    value = _number(name)
    if value is not None and not value.is_integer():
        return f"{sentence}, or declare the column as {shortened(column.name)}:regression"
    return f"{sentence}, or declare the column as {shortened(column.name)}:multiclass"


def _declared(column: Column, names: Sequence[str]) -> tuple[str, ...]:
    """Return the classes of a column whose kind is given in the header."""
    if column.argument:
        named = tuple(_class_name(name) for name in column.classes)
        if len(set(named)) < len(named):
            raise ColumnError(f"the header names a class of {quoted(column.name)} twice ({_all(named)}); correct it")
        return named
    found = _sorted(name for name in names if name)
    numeric = all(_number(name) is not None for name in found)
    if column.kind == "ordinal" and not numeric:
        raise ColumnError(
            f"the classes of {quoted(column.name)} are words, whose order is unknown; name it, as in "
            f"{shortened(column.name)}:ordinal({shortened('<'.join(found[:3]))})"
        )
    found = _at_least_two(column, found)
    if column.kind == "binary" and len(found) != 2:
        raise ColumnError(
            f"{quoted(column.name)} is declared as binary and has {len(found)} classes ({_some(found)}); correct the "
            f"values, or declare it as {shortened(column.name)}:multiclass"
        )
    return found


def _inferred(column: Column, names: Sequence[str]) -> tuple[str, ...]:
    """Return the classes of a column whose kind is inferred: whole numbers, or else words."""
    known = [name for name in names if name]
    numbers = [name for name in known if _number(name) is not None]
    if 2 * len(numbers) >= len(known) and known:
        classes = [name for name in set(numbers) if _digits(name)]
        if not classes:
            raise ColumnError(
                f"{quoted(column.name)} has numbers that are not classes ({_some(_sorted(numbers))}); {_remedy(column)}"
            )
    else:
        classes = list(set(known).difference(numbers))
    found = _at_least_two(column, _sorted(classes))
    counts = Counter(known)
    cases = sum(counts[name] for name in found)
    large = any(_digits(name) and int(name) > LARGEST for name in found)
    if large or (len(found) > MANY and len(found) * FEWEST > cases):
        raise ColumnError(
            f"{quoted(column.name)} has {len(found)} different values ({_some(found)}) in {cases} rows, like "
            f"{_guess(found, cases)}; {_remedy(column)}"
        )
    return found


def _remedy(column: Column) -> str:
    name = shortened(column.name)
    return f"declare it as {name}:regression or {name}:multiclass, or leave it out"


def _guess(found: Sequence[str], cases: int) -> str:
    if not all(_digits(name) for name in found):
        return "a name or free text"
    if max(map(int, found)) <= OLDEST:
        return "an age or a measurement"
    return "an identifier" if len(found) == cases else "a measurement, a date or an identifier"


def _at_least_two(column: Column, found: tuple[str, ...]) -> tuple[str, ...]:
    if not found:
        raise ColumnError(f"the column {quoted(column.name)} has no values; fill it or leave it out")
    if set(found) <= {"0", "1"}:
        return ("0", "1")
    if len(found) < 2:
        raise ColumnError(
            f"every value of {quoted(column.name)} is {quoted(found[0])}, and a task needs two classes; add volumes "
            "of another class, or leave the column out"
        )
    return found


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    """Return distinct names, numbers in numeric order, before words."""
    return tuple(sorted(set(names), key=lambda name: (_number(name) is None, _number(name) or 0.0, name)))


def _some(names: Sequence[str]) -> str:
    return ", ".join(shortened(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")


def _all(names: Sequence[str]) -> str:
    return shortened(", ".join(names), MOST_TEXT)


def _digits(name: str) -> bool:
    """Return whether a name is a whole number; ``isdigit`` alone accepts superscripts, which ``int`` rejects."""
    return name.isascii() and name.isdigit()


def _class_name(text: str) -> str:
    """Return the name of a class: a whole number without leading zeros and decimals ("1.0"), or the unchanged text."""
    value = _number(text)
    return str(int(value)) if value is not None and value.is_integer() else text


def _number(text: str) -> float | None:
    """Return a finite number in ASCII digits, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and text.isascii() and "_" not in text else None

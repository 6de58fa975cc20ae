"""Reading CSV tables so that every fault can be reported with its file and row."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ssl3d.data.reading.files import open_file
from ssl3d.errors import DataError, hidden, shortened

MOST_BYTES = 64_000_000  # of a table
LONGEST_LINE = 1_000_000  # characters
LONGEST_FIELD = 1_000  # characters
MOST_COLUMNS = 10_000


@dataclass(frozen=True)
class Row:
    """One row of a table: its line number, counted from 1, and its stripped fields."""

    number: int
    fields: tuple[str, ...]


def read_rows(path: Path, delimiters: str = ",") -> list[Row]:
    r"""Return the rows of a CSV file that are not blank.

    CRLF, a byte order mark and a missing final newline are accepted.

    Args:
        path: path of the file.
        delimiters: possible separators (",;\t"); the one most frequent in the first line is used.

    Raises:
        DataError: the file is missing, unreadable, too large, not UTF-8, or not CSV; or a field is too long or contains
            an invisible character.
    """
    name = shortened(str(path), 200)
    with open_file(path, name) as raw:
        size = os.fstat(raw.fileno()).st_size
        if size > MOST_BYTES:
            raise DataError(
                f"{name} has {size / 1e6:,.0f} MB, and a table has at most {MOST_BYTES // 10**6} MB; restore it"
            )
        try:
            with io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
                first = next((line for line in _lines(file, path.name) if line.strip()), "")
                file.seek(0)
                lines = _lines(file, path.name)
                reader = csv.reader(lines, strict=True, delimiter=max(delimiters, key=first.count))
                return [row for fields in reader for row in _rows(fields, reader.line_num, path.name)]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise DataError(f"{name} cannot be read as a CSV table in UTF-8 ({reason}); save it as one") from error


def _lines(file: TextIO, table: str) -> Iterator[str]:
    """Yield the lines of a table, each of bounded length."""
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise DataError(f"{table} row {number} has more than {LONGEST_LINE:,} characters; correct or remove it")
        yield line


def _rows(fields: list[str], number: int, table: str) -> Iterator[Row]:
    """Yield a row if it is not blank.

    Raises:
        DataError: it has too many fields, or one that is too long or not plain text.
    """
    stripped = tuple(field.strip() for field in fields)
    if not any(stripped):
        return
    if len(stripped) > MOST_COLUMNS:
        raise DataError(
            f"{table} row {number} has {len(stripped):,} columns, and a table has at most {MOST_COLUMNS:,}; leave out "
            "those that are no labels"
        )
    for place, field in enumerate(stripped, start=1):
        where = f"{table} row {number}, field {place}"
        if len(field) > LONGEST_FIELD:
            raise DataError(
                f"{where}: the text has {len(field):,} characters, and a field has at most {LONGEST_FIELD:,}; shorten "
                "it or leave the column out"
            )
        if (character := hidden(field)) is not None:
            raise DataError(f"{where}: the text has the invisible character {character!a}; remove it")
    yield Row(number, stripped)

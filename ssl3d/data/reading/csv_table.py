"""Reading CSV tables so that every fault can be reported with its file and row."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from ssl3d.errors import DataError


@dataclass(frozen=True)
class Row:
    """One row of a table: its line number, counted from 1, and its fields without surrounding space."""

    number: int
    fields: tuple[str, ...]


def read_rows(path: Path, delimiters: str = ",") -> list[Row]:
    r"""Return the rows of a CSV file that are not blank.

    CRLF, a byte order mark and a missing final newline are accepted.

    Args:
        path: of the file.
        delimiters: that may separate fields (",;\t"); the one that is most frequent in the first line does.

    Raises:
        DataError: the file is absent, unreadable, not UTF-8, or not CSV.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = next((line for line in file if line.strip()), "")
            file.seek(0)
            reader = csv.reader(file, strict=True, delimiter=max(delimiters, key=first.count))
            rows = [Row(reader.line_num, tuple(field.strip() for field in fields)) for fields in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path} cannot be read as a CSV table in UTF-8 ({reason}); save it as one") from error
    return [row for row in rows if any(row.fields)]

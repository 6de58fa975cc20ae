"""Reading CSV tables so that every fault can be told with its file and row."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from ssl3d.errors import DataError


class DataFaultsError(DataError):
    """Several faults of one data set; the message is the first and says how many more there are.

    Attributes:
        faults: one sentence each.
    """

    def __init__(self, faults: list[str]) -> None:
        more = f" (and {len(faults) - 1} more: `ssl3d data check` lists them all)" if len(faults) > 1 else ""
        super().__init__(faults[0] + more)
        self.faults = tuple(faults)


@dataclass(frozen=True)
class Row:
    """One row of a table: its line number, counted from 1, and its fields without surrounding space."""

    number: int
    fields: tuple[str, ...]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV file that are not blank.

    CRLF, a byte order mark and a missing final newline are all taken.

    Raises:
        DataError: the file is absent, unreadable, not UTF-8, or not CSV.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            rows = [Row(reader.line_num, tuple(field.strip() for field in fields)) for fields in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path} cannot be read as a CSV table ({reason}); restore it") from error
    return [row for row in rows if any(row.fields)]

"""Comparison of a run's tables on disk with those computed from its records. Writes nothing."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

from ssl3d.audit.verdict import Difference, Findings, Verdict, differences
from ssl3d.errors import UserError
from ssl3d.results.folder import REPORT, TABLES
from ssl3d.results.read import read_results
from ssl3d.tables.tables import Tables
from ssl3d.tables.write import table_files

AGAIN = "`ssl3d bench` writes it again"
KEYS = (  # columns that identify a row, if a table has them
    *("evaluation", "data", "task", "plane", "protocol", "condition", "draw", "fold", "seed"),
    *("method", "backbone", "method_a", "backbone_a", "method_b", "backbone_b"),
)


def verify_tables(run: Path, sound: bool) -> Iterator[Verdict]:
    """Check every existing table of a run.

    Args:
        run: folder of the run.
        sound: whether all records that tables are made from are sound.
    """
    names = [name for name in TABLES if name != REPORT]
    if not sound:
        yield Verdict("tables", "not checked: an artifact is not sound")
        return
    try:
        results = read_results(run)
        made = table_files(Tables(results)) if results else {}
    except UserError as error:
        yield Verdict("tables", faults=(str(error),))
        return
    for name in names:
        if name in made or (run / name).exists():
            yield _verdict(run / name, made.get(name))


def _verdict(path: Path, made: str | None) -> Verdict:
    """Check one table against its recomputation; None if no such table follows from the records."""
    found = Findings()
    if made is None:
        found.faults.append(f"{path} is there, and the records give no such table; delete it")
    elif not path.is_file():
        return Verdict(path.name, "not there")
    else:
        _compare(path, made, found)
    return found.verdict(path.name)


def _compare(path: Path, made: str, found: Findings) -> None:
    try:
        there = path.read_bytes().decode()
        rows = list(csv.reader(io.StringIO(there), strict=True)) if path.suffix == ".csv" else []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        found.faults.append(f"{path} cannot be read ({error}); {AGAIN}")
        return
    if there == made:
        return
    expected = list(csv.reader(io.StringIO(made)))
    if path.suffix != ".csv":
        found.faults.append(f"{path} is not what the records give; {AGAIN}")
    elif not rows or rows[0] != expected[0]:
        found.faults.append(f"{path} has other columns than the records give; {AGAIN}")
    elif len(rows) != len(expected):
        found.faults.append(f"{path} has {len(rows) - 1} rows, and the records give {len(expected) - 1}; {AGAIN}")
    elif any(len(row) != len(expected[0]) for row in rows):
        found.faults.append(f"{path} has a row that is longer or shorter than its heading; {AGAIN}")
    else:
        found.differences += _rows(path.name, rows, expected)


def _rows(file: str, there: list[list[str]], made: list[list[str]]) -> Iterator[Difference]:
    names = made[0]
    for number, (a, b) in enumerate(zip(there[1:], made[1:], strict=True), 1):
        row = " ".join(value for name, value in zip(names, b, strict=True) if name in KEYS and value)
        for name, recorded, recomputed in zip(names, a, b, strict=True):
            yield from differences(file, f"row {number} ({row}), {name}", _value(recorded), _value(recomputed))


def _value(text: str) -> float | str | None:
    """Return a number if a text is one."""
    try:
        value = float(text)
    except ValueError:
        return text or None
    return value if math.isfinite(value) else text

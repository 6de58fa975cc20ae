"""The tables of a run on the disk against those that its results give. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ssl3d.audit.verdict import Difference, Verdict, differences
from ssl3d.errors import UserError
from ssl3d.results.folder import cells_folder
from ssl3d.results.records import RESULT, SCHEMA_VERSION, read_content
from ssl3d.tables.combine_planes import read_run
from ssl3d.tables.render import to_csv
from ssl3d.tables.typed import Columns, read_table
from ssl3d.tables.write import TABLE_COLUMNS, markdown, tables

KEYS = (  # columns that tell the rows of a table apart, where it has them
    *("cell", "task", "plane", "protocol", "condition", "draw", "fold"),
    *("method", "backbone", "method_a", "backbone_a", "method_b", "backbone_b"),
)
OF_RECIPES = frozenset({"recipe", "settings", "settings_a", "settings_b"})  # hashes: another version, another hash
MARKDOWN = "leaderboard.md"


def verify_tables(run: Path, sound: bool) -> list[Verdict]:
    """Check every table of a run that is there.

    Args:
        run: its folder.
        sound: whether every cell is; tables cannot be made from others.
    """
    if not sound:
        return [Verdict("tables", "not checked: a cell is not sound")]
    try:
        results = read_run(cells_folder(run))
        if not results:
            return []
        made = tables(results)
        older = _older(run)
        found = [_verdict(run / name, table, TABLE_COLUMNS[name], older) for name, table in made.items()]
        text = markdown(run, made)
        found += [_without_source(run / name) for name in TABLE_COLUMNS if name not in made and (run / name).exists()]
    except UserError as error:
        return [Verdict("tables", faults=(str(error),))]
    return [*found, _markdown(run / MARKDOWN, text, older)]


def _older(run: Path) -> bool:
    """Whether a cell was written under an earlier schema version."""
    folders = (path.parent for path in cells_folder(run).glob(f"*/{RESULT}"))
    return any(read_content(folder)["schema_version"] < SCHEMA_VERSION for folder in folders)


def _verdict(path: Path, table: pd.DataFrame, columns: Columns, older: bool) -> Verdict:
    if not path.is_file():
        return Verdict(path.name, "not there")
    if path.read_bytes() == to_csv(table).encode():
        return Verdict(path.name)
    try:
        there = read_table(path, columns)
    except (ValueError, UnicodeDecodeError) as error:
        return Verdict(path.name, faults=(f"{path} is damaged ({str(error).splitlines()[0]}); make it again",))
    left_out = OF_RECIPES if older else frozenset()
    shared = [name for name in table if name in there and name not in left_out]
    skipped = ", ".join(name for name in table if name in left_out)
    notes = [f"columns left out, an earlier version wrote them otherwise: {skipped}"] if skipped else []
    faults = () if older or list(there) == list(table) else (f"{path} has other columns; make it again",)
    if len(there) != len(table):
        faults = (*faults, f"{path} has {len(there)} rows, the results give {len(table)}; make it again")
    found = tuple(_rows(path.name, there[shared], table[shared])) if len(there) == len(table) else ()
    return Verdict(path.name, faults=faults, differences=found, notes=tuple(notes))


def _without_source(path: Path) -> Verdict:
    return Verdict(path.name, faults=(f"{path} is there, and the results give none; delete it",))


def _rows(file: str, there: pd.DataFrame, made: pd.DataFrame) -> Iterator[Difference]:
    keys = [name for name in KEYS if name in made]
    for number, (a, b) in enumerate(zip(_plain(there), _plain(made), strict=True), 1):
        row = " ".join(str(b[name]) for name in keys if b[name] is not None)
        for name in b:
            yield from differences(file, f"row {number} ({row}), {name}", a[name], b[name])


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def _markdown(path: Path, text: str, older: bool) -> Verdict:
    if not path.is_file():
        return Verdict(path.name, "not there")
    if path.read_text("utf-8") == text:
        return Verdict(path.name)
    if older:
        return Verdict(path.name, "not checked: an earlier version wrote it")
    return Verdict(
        path.name, faults=(f"{path} is not what the results give; `ssl3d leaderboard --format md` makes it",)
    )

"""A run, read once for all figures: results, tables, entries, names and looks. Loads no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from ssl3d.errors import RunError
from ssl3d.report.style import Look, looks, plain
from ssl3d.results.folder import cells_folder, require_run
from ssl3d.results.records import CellResult, read_results
from ssl3d.tables.combine_planes import read_run
from ssl3d.tables.comparisons import comparisons
from ssl3d.tables.entries import Results, entries, settings_hash
from ssl3d.tables.entry import Entry
from ssl3d.tables.leaderboard import leaderboard

Row = dict[str, Any]
Name = tuple[str, str, str]  # method, backbone, settings
Place = tuple[str, str]  # task, plane; "" where there is none


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Attributes:
        name: stem of its file.
        title: a few words.
        caption: what is drawn and how to read it.
        alt: what a reader who cannot see it should know.
        figure: drawn, not saved.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure


@dataclass(frozen=True)
class Section:
    """A part of the report: its figures, and in words what could not be drawn."""

    key: str
    title: str
    drawings: list[Drawing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """What a run has left.

    Attributes:
        folder: of the run.
        results: of all cells that were run, with their predictions.
        board: the leaderboard.
        pairs: the comparisons.
        entries: what stands behind the rows of the leaderboard.
    """

    folder: Path
    results: Results
    board: pd.DataFrame
    pairs: pd.DataFrame
    entries: list[Entry]

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read a run's results and make its tables.

        Raises:
            RunError: the folder is no run's, has no result, or holds one that is damaged.
        """
        require_run(folder)
        results = read_results(cells_folder(folder))
        if not results:
            raise RunError(f"{folder} has no result yet; run its `ssl3d bench` command to the end")
        derived = read_run(cells_folder(folder))  # with what is made of several planes
        return cls(folder, results, leaderboard(derived), comparisons(derived), entries(derived))

    @property
    def done(self) -> list[CellResult]:
        """Finished cells."""
        return [cell for cell, _ in self.results if cell.status == "done"]

    @property
    def failed(self) -> list[CellResult]:
        """Failed cells."""
        return [cell for cell, _ in self.results if cell.status == "failed"]

    @cached_property
    def names(self) -> dict[Name, str]:
        """Names of methods as short as tells them apart, in the order of the leaderboard."""
        rows = records(self.board)
        found = dict.fromkeys(_triple(row) for row in rows)
        several = len({backbone for _, backbone, _ in found}) > 1
        short = {name: f"{name[0]} on {name[1]}" if several else name[0] for name in found}
        # Settings hold the plane, so one method has one hash a plane: only rows of one table need telling apart.
        counts = Counter((short[_triple(row)], place_of(row), row["protocol"]) for row in rows)
        alike = {text for (text, *_), count in counts.items() if count > 1}
        return {name: f"{text} ({name[2]})" if text in alike else text for name, text in short.items()}

    @cached_property
    def looks(self) -> dict[str, Look]:
        """The look of each name, the same in all figures."""
        return looks(sorted(set(self.names.values())))

    def name_of_row(self, row: Row) -> str:
        """Return the name of a row of the leaderboard."""
        return self.names[_triple(row)]

    def name_of_cell(self, cell: CellResult) -> str:
        """Return the name that a cell's seeds share."""
        name = (cell.recipe.method, cell.recipe.backbone, settings_hash(cell.recipe))
        return self.names[name]

    def name_of_entry(self, entry: Entry) -> str:
        """Return the name of an entry."""
        return self.names[entry.key.method, entry.key.backbone, entry.key.settings]

    def titled(self, place: Place, *more: str) -> str:
        """Return what a figure is about as text, without the place where all of the run is about one."""
        return titled(place if len(list(self.rows())) > 1 else ("", ""), *more)

    def rows(self) -> Iterator[tuple[Place, list[Row]]]:
        """Yield the leaderboard's rows for each task and plane."""
        found: dict[Place, list[Row]] = {}
        for row in records(self.board):
            found.setdefault(place_of(row), []).append(row)
        yield from found.items()

    def scored(self) -> Iterator[tuple[Place, str, list[Entry]]]:
        """Yield the entries with an AUC for each task, plane and protocol."""
        found: dict[tuple[Place, str], list[Entry]] = {}
        for entry in self.entries:
            if entry.auc is not None and len(entry.labels):  # a mean over tasks has no predictions of its own
                found.setdefault(((entry.key.task, entry.key.plane), entry.protocol), []).append(entry)
        for (place, protocol), members in found.items():
            yield place, protocol, members


def records(table: pd.DataFrame) -> list[Row]:
    """Return the rows of a table, None where something is missing."""
    return [
        {str(key): None if pd.isna(value) else value for key, value in row.items()} for row in table.to_dict("records")
    ]


def place_of(row: Row) -> Place:
    """Return the task and plane of a row of a table."""
    return str(row.get("task") or ""), str(row.get("plane") or "")


def titled(place: Place, *more: str) -> str:
    """Return a place, and what else a figure is about, as text: "acl, sagittal, linear"."""
    return ", ".join(plain(part) for part in (*place, *more) if part)


def _triple(row: Row) -> Name:
    return str(row["method"]), str(row["backbone"]), str(row["settings"])

"""A run, read once for all figures: results, tables, plan, names and styles. Loads no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ssl3d.errors import RunError
from ssl3d.evaluate.statistics.limits import ERROR
from ssl3d.report.panels import Panels
from ssl3d.report.score import Score, measure_of
from ssl3d.report.style import Look, looks, plain
from ssl3d.results.model import EncoderRecord, PlanRecord
from ssl3d.results.read import read_plan, read_results
from ssl3d.results.results import Evaluated, Results
from ssl3d.tables.entry import MEAN, PLUS, Entry
from ssl3d.tables.tables import Tables

Row = dict[str, Any]
Name = tuple[str, str, str]  # method, backbone, settings
Subject = tuple[str, str, str]  # data set, task, plane of a figure; "" if there is none
MOST = 12  # methods in a figure: more cannot be distinguished, and make a page of many megabytes


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Attributes:
        name: stem of its file.
        title: a few words.
        caption: what is shown and how to read it.
        alt: description for readers who cannot see it.
        panels: draw it.
    """

    name: str
    title: str
    caption: str
    alt: str
    panels: Panels


@dataclass(frozen=True)
class Section:
    """A part of the report: its figures, and sentences on what could not be drawn."""

    key: str
    title: str
    drawings: list[Drawing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """The data from which the figures and tables of one run are made.

    Attributes:
        folder: folder of the run.
        plan: its plan, and where its volumes are.
        results: its results.
        tables: computed from the results, each once.
        allow_code: whether plugins that the run names by file or module may be imported.
    """

    folder: Path
    plan: PlanRecord
    results: Results
    tables: Tables
    allow_code: bool = False

    @classmethod
    def read(cls, folder: Path, allow_code: bool = False) -> Run:
        """Read a run.

        Raises:
            RunError: the folder is not a run's folder, has no results, or contains a damaged one.
        """
        results = read_results(folder)
        if not results:
            raise RunError(f"{folder} has no result yet; run its `ssl3d bench` command to the end")
        return cls(folder, read_plan(folder), results, Tables(results), allow_code)

    @property
    def board(self) -> pd.DataFrame:
        """The leaderboard."""
        return self.tables.leaderboard

    @cached_property
    def rows(self) -> list[Row]:
        """Rows of the leaderboard, the primary comparison and other headlines first, with None for missing values."""
        rows = plain_rows(self.board)
        headlines, primary = _headlines(rows), self.tables.primary
        return sorted(rows, key=lambda row: (subject_of(row) not in headlines, subject_of(row) != (primary or ())[:3]))

    @cached_property
    def headlines(self) -> list[Subject]:
        """The subject of each data set that sums up the others: the mean over tasks, of combined planes, if there is.

        A data set without any mean or combination has several headlines: all its subjects.
        """
        return _headlines(self.rows)

    @cached_property
    def names(self) -> Mapping[Name, str]:
        """The shortest distinct names of methods, in the order of the leaderboard."""
        found = dict.fromkeys(_name(row) for row in self.rows)
        several = len({one[:2] for one in found}) > len({method for method, _, _ in found})
        short = {name: f"{name[0]} on {name[1]}" if several else name[0] for name in found}
        # Settings also contain plane and protocol: only rows of one table need different names.
        counts = Counter((short[_name(row)], subject_of(row), row["protocol"]) for row in self.rows)
        alike = {text for (text, *_), count in counts.items() if count > 1}
        return {name: f"{text} ({name[2]})" if text in alike else text for name, text in short.items()}

    @cached_property
    def looks(self) -> dict[str, Look]:
        """The style of each name, the same in all figures."""
        return looks(sorted({*self.names.values(), *self._encoders.values()}))

    def name_of_row(self, row: Row) -> str:
        """Return the name of a row of the leaderboard, or of the curves."""
        return self.names[_name(row)]

    def name_of_entry(self, entry: Entry) -> str:
        """Return the name of an entry."""
        return self.names[entry.key.method, entry.key.backbone, entry.key.settings]

    def name_of_encoder(self, encoder: EncoderRecord) -> str:
        """Return the name that an encoder's seeds share."""
        return self._encoders[encoder.key]

    @cached_property
    def _encoders(self) -> dict[str, str]:
        """Names by the key of the encoder, including encoders without an evaluation."""
        found = {
            one.encoder.key: self.name_of_entry(entry)
            for entry in self.tables.entries
            if not (entry.key.is_mean or entry.key.is_combined)
            for one in (*entry.done, *entry.unfinished)
        }
        several = any(" on " in name for name in self.names.values())
        for key, record in self.results.encoders.items():
            recipe = record.recipe
            found.setdefault(key, f"{recipe.method} on {recipe.backbone}" if several else recipe.method)
        return found

    @cached_property
    def _varying(self) -> tuple[bool, bool, bool]:
        """Return which of data set, task and plane differ within the run."""
        data, task, plane = (len({subject_of(row)[i] for row in self.rows}) > 1 for i in range(3))
        return data, task, plane

    def titled(self, subject: Subject, *more: str) -> str:
        """Return the subject of a figure as text, without the parts common to the whole run: "axial, linear"."""
        parts = [part for part, varies in zip(subject, self._varying, strict=True) if varies]
        return titled(*parts, *more)

    def score_of(self, rows: Sequence[Row]) -> Score:
        """Return the score of some rows of one data set, task and plane."""
        measure = measure_of(rows)
        return Score(measure, self._units.get(subject_of(rows[0]), "") if measure.scale is ERROR else "")

    @cached_property
    def _units(self) -> dict[Subject, str]:
        """Units of regression targets."""
        known = [entry for entry in self.tables.entries if entry.done]
        return {entry.key.table: plain(entry.done[0].record.data.task.unit or "", 12) for entry in known}

    def by_subject(self) -> Iterator[tuple[Subject, list[Row]]]:
        """Yield the leaderboard's rows for each data set, task and plane."""
        found: dict[Subject, list[Row]] = {}
        for row in self.rows:
            found.setdefault(subject_of(row), []).append(row)
        yield from found.items()

    def by_table(self) -> Iterator[tuple[Subject, str, list[Row]]]:
        """Yield the leaderboard's rows for each data set, task, plane and protocol, best first."""
        for subject, rows in self.by_subject():
            for protocol in dict.fromkeys(row["protocol"] for row in rows):
                yield subject, protocol, [row for row in rows if row["protocol"] == protocol]

    def with_auc(self) -> Iterator[tuple[Subject, str, list[Entry]]]:
        """Yield the entries with an AUC for each data set, task, plane and protocol; their scores are the AUC."""
        found: dict[tuple[Subject, str], list[Entry]] = {}
        for entry in self.tables.entries:
            if not len(entry.labels) or any("auc" not in part.scores for part in entry.parts):
                continue  # a mean over tasks or labels, which has no predictions, or a regression
            by_auc = replace(entry, metric="auc")
            if by_auc.score is not None:
                found.setdefault((entry.key.table, entry.key.protocol), []).append(by_auc)
        for subject, protocol, _ in self.by_table():
            if (subject, protocol) in found:
                yield subject, protocol, found[subject, protocol]

    def trained(self) -> list[EncoderRecord]:
        """Return the encoders that were pretrained."""
        return [record for record in self.results.encoders.values() if record.recipe.pretrain is not None]

    def whole(self) -> list[Evaluated]:
        """Return the evaluations with all training labels, except those of combined planes."""
        return [one for one in self.results.evaluated if not one.record.recipe.condition]


def plain_rows(table: pd.DataFrame) -> list[Row]:
    """Return the rows of a table, with None for missing values."""
    return [
        {str(key): None if pd.isna(value) else value for key, value in row.items()} for row in table.to_dict("records")
    ]


def _headlines(rows: Iterable[Row]) -> list[Subject]:
    """Return the most derived subjects of each data set."""
    found: dict[str, dict[Subject, tuple[bool, bool]]] = {}
    for subject in dict.fromkeys(map(subject_of, rows)):
        found.setdefault(subject[0], {})[subject] = (subject[1].startswith(MEAN), PLUS in subject[2])
    return [subject for of in found.values() for subject, derived in of.items() if derived == max(of.values())]


def highest(names: Iterable[str], most: int = MOST) -> list[str]:
    """Return the first distinct names, at most ``most``."""
    return list(dict.fromkeys(names))[:most]


def shown_of(shown: Sequence[str], names: Iterable[str], rule: str = "with the best scores") -> str:
    """Return a sentence on the methods that a figure leaves out, after a space; empty if it shows all."""
    every = len(set(names))
    return f" Shown are {len(shown)} of {every} methods, those {rule}." if len(shown) < every else ""


def subject_of(row: Row) -> Subject:
    """Return the data set, task and plane of a row of a table."""
    return str(row.get("data") or ""), str(row.get("task") or ""), str(row.get("plane") or "")


def titled(*parts: str) -> str:
    """Return the subject of a figure as text: "acl, sagittal, linear"."""
    return ", ".join(plain(part) for part in parts if part)


def stem(*parts: str) -> str:
    """Return the name of a figure's file, which the writer makes safe."""
    return "-".join(part for part in parts if part)


def _name(row: Row) -> Name:
    return str(row["method"]), str(row["backbone"]), str(row["settings"])

"""Curves: AUC against the share of labels, or of positives among them. Loads neither torch nor scikit-learn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ssl3d.evaluate.statistics.delong import Interval
from ssl3d.results.records import CellResult, CurvePoint
from ssl3d.tables.entries import Results, by_fold, entries, probabilities, reference
from ssl3d.tables.entry import MEAN, PLUS, Entry, Part
from ssl3d.tables.standings import repeated_interval, standings
from ssl3d.tables.typed import Column, Columns, typed

COLUMNS: Columns = {
    "method": Column("str", "name of the method"),
    "backbone": Column("str", "name of the backbone"),
    "protocol": Column("str", "linear, knn or finetune"),
    "condition": Column("str", "what is varied: labels, or positives (at one number of labels)"),
    "share": Column("float64", "of the training labels, or of positives among those used"),
    "auc": Column("float64", "area under the ROC curve on the test cases, mean over draws and seeds"),
    "ci_low": Column("float64", "lower 95% limit of auc"),
    "ci_high": Column("float64", "upper 95% limit of auc"),
    "interval": Column(
        "str", "DeLong (one draw and seed), or bootstrap (over cases and seeds; over cases and draws of one)"
    ),
    "spread": Column(
        "float64", "standard deviation over seeds of their mean auc over draws; over draws where there is one seed"
    ),
    "n_train": Column("Int64", "training labels used, of the first fold"),
    "n_positive": Column("Int64", "positives among them; missing for all labels, and for more than two classes"),
    "draws": Column("Int64", "draws of the labels for each seed; 1 for all labels"),
    "seeds": Column("Int64", "finished seeds"),
    "n_test": Column("Int64", "number of test volumes, of all folds together"),
    "data": Column("str", "data set"),
    "task": Column("str", "label that is predicted"),
    "plane": Column("str", "plane of the exam"),
    "synthetic": Column("boolean", "whether the data are generated"),
    "settings": Column("str", "hash of the recipe without its seed, task and fold"),
    "note": Column("str", "why there is no AUC, or what its interval leaves out"),
}
ONE_SEED = "one seed: the interval leaves out the variance of the encoder's seed"
Cases = Mapping[tuple[str, str, int], pd.DataFrame]  # by task, plane and fold
Predictions = Mapping[str, pd.DataFrame | None]  # by cell


class _Place(NamedTuple):
    """A point of a curve: what is varied, and how far."""

    condition: str
    share: float

    @classmethod
    def of(cls, point: CurvePoint) -> _Place:
        return cls("labels", point.labels) if point.positives is None else cls("positives", point.positives)


def curves(results: Results) -> pd.DataFrame:
    """Return one row a method, backbone, protocol and share; see :data:`COLUMNS`. Empty where there are no curves.

    The curve of labels ends with all of them. The draws of a seed share its encoder, so the mean over them is one
    repetition: the variance of these means, of encoders and draws together, is added to that of the cases (see
    :mod:`ssl3d.evaluate.statistics.bootstrap`). With one seed the draws are the repetitions, and the note says that the variance
    of the encoder's seed is left out. A draw or seed that is not done in every fold is left out.

    Raises:
        RunError: the cells were not judged on the same data in the same way, or lack predictions.
    """
    if not any(cell.curve for cell, _ in results):
        return typed([], COLUMNS)
    cases = {where: reference(found) for where, found in by_fold(results).items()}
    predictions: dict[str, pd.DataFrame | None] = {}
    for cell, table in results:
        predictions.setdefault(cell.cell, table)
    rows = [row for entry in entries(results) if _single(entry) for row in _rows(entry, predictions, cases)]
    return typed(rows, COLUMNS)


def _single(entry: Entry) -> bool:
    """Whether an entry is of one task and plane, not made from several."""
    return not entry.key.task.startswith(MEAN) and PLUS not in entry.key.plane


def _rows(entry: Entry, predictions: Predictions, cases: Cases) -> list[dict[str, Any]]:
    """The curves of one entry, each from its largest share to its smallest."""
    found: dict[_Place, dict[int, list[CurvePoint]]] = {}  # by place, then by draw: one point a cell
    for point in (point for cell in entry.done for point in cell.curve if point.protocol == entry.protocol):
        found.setdefault(_Place.of(point), {}).setdefault(point.draw, []).append(point)
    rows = []
    if any(place.condition == "labels" for place in found):
        data = entry.done[0].data
        rows.append(_row(entry, _Place("labels", 1.0), 1) | {"n_train": data.n_train if data else None})
    for place in sorted(found, key=lambda place: (place.condition, -place.share)):
        whole = {draw: points for draw, points in found[place].items() if len(points) == len(entry.done)}
        if not whole:
            continue
        first = next(iter(whole.values()))[0]
        row = _row(
            _at(entry, [points[0].condition for points in whole.values()], predictions, cases), place, len(whole)
        )
        rows.append(row | {"n_train": first.n_train, "n_positive": first.n_positive})
    return rows


def _at(entry: Entry, conditions: Sequence[str], predictions: Predictions, cases: Cases) -> Entry:
    """The entry under several draws of one condition, which take the place of its seeds: seed after seed."""
    folds = range(entry.done[0].recipe.data.folds or 1)
    parts = []
    for fold in folds:
        where = cases[entry.key.task, entry.key.plane, fold]
        cells = [cell for cell in entry.done if cell.recipe.data.fold == fold]
        parts.append(_part(entry.protocol, cells, conditions, predictions, where))
    return replace(entry, seeds=tuple(range(len(entry.seeds) * len(conditions))), parts=tuple(parts))


def _part(
    protocol: str, cells: Sequence[CellResult], conditions: Sequence[str], predictions: Predictions, cases: pd.DataFrame
) -> Part:
    layers, aucs = [], []
    for cell in cells:
        points = {point.condition: point for point in cell.curve if point.protocol == protocol}
        for condition in conditions:
            layers.append(probabilities(cell, predictions[cell.cell], protocol, cases, condition))
            aucs.append(points[condition].score.metrics.get("auc"))
    return Part(tuple(cases.index), cases["label"].to_numpy(), np.stack(layers), tuple(aucs))


def _row(entry: Entry, place: _Place, draws: int) -> dict[str, Any]:
    key, data, seeds = entry.key, entry.done[0].data, len(entry.seeds) // draws
    interval, source = _interval(entry, seeds, draws)
    row: dict[str, Any] = {
        **{"method": key.method, "backbone": key.backbone, "protocol": key.protocol, **place._asdict()},
        **{"auc": entry.auc, "interval": source, "draws": draws, "seeds": seeds},
        **{"task": key.task, "plane": key.plane, "settings": key.settings, "n_test": entry.cases},
        **({"data": data.name, "synthetic": data.synthetic} if data else {}),
    }
    if interval is not None:
        row |= {"ci_low": interval.low, "ci_high": interval.high}
    if len(entry.aucs) > 1:
        row["spread"] = float(np.reshape(entry.aucs, (_repetitions(seeds, draws), -1)).mean(axis=1).std(ddof=1))
    if seeds == 1:
        row["note"] = ONE_SEED
    if entry.auc is None:
        row["note"] = "; ".join(_reasons(entry.done, key.protocol))
    return row


def _interval(entry: Entry, seeds: int, draws: int) -> tuple[Interval | None, str]:
    """The interval and where it is from; with one draw, as on the leaderboard."""
    if draws > 1:
        interval = repeated_interval(entry, _repetitions(seeds, draws))
        return interval, "" if interval is None else "bootstrap"
    standing = standings([entry])[0][0]
    return standing.interval, standing.interval_from


def _repetitions(seeds: int, draws: int) -> int:
    """How many vary independently: the seeds, or the draws of a single one."""
    return seeds if seeds > 1 else draws


def _reasons(cells: Iterable[CellResult], protocol: str) -> list[str]:
    reasons = (cell.scores[protocol].reasons.get("auc") for cell in cells)
    return list(dict.fromkeys(reason for reason in reasons if reason))

"""Curves: scores against the fraction of labels, or of positives among them. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ssl3d.evaluate.statistics.limits import Interval
from ssl3d.recipe import EvaluationRecipe
from ssl3d.results.results import Evaluated
from ssl3d.tables.columns import Columns, ColumnType, joined, typed
from ssl3d.tables.entries import Where, key_of, parts_of, reference_cases
from ssl3d.tables.entry import Entry, Key, metric_of
from ssl3d.tables.standings import Standing, repeated_interval, source, standings

COLUMNS: Columns = {
    "method": ColumnType("str", "name of the method"),
    "backbone": ColumnType("str", "name of the backbone"),
    "protocol": ColumnType("str", "how encoders were evaluated: linear, knn, attentive, finetune, or another plugin"),
    "condition": ColumnType("str", "what is varied: labels, or positives (at one number of labels)"),
    "share": ColumnType("float64", "of the training labels, or of positives among those used"),
    "metric": ColumnType("str", "what ranks methods on this kind of task"),
    "score": ColumnType("float64", "that metric on the test cases, mean over draws and seeds"),
    "ci_low": ColumnType("float64", "lower 95% limit of score"),
    "ci_high": ColumnType("float64", "upper 95% limit of score"),
    "interval": ColumnType(
        "str", "DeLong (one draw and seed), DeLong and seeds, or DeLong and draws (of one seed); over patients"
    ),
    "spread": ColumnType(
        "float64", "standard deviation over seeds of their mean score over draws; over draws where there is one seed"
    ),
    "n_labels": ColumnType("Int64", "training labels used, of the first fold"),
    "n_positive": ColumnType("Int64", "positives among them; missing if the task is not binary"),
    "draws": ColumnType("Int64", "draws of the labels for each seed; 1 for all labels"),
    "seeds": ColumnType("Int64", "complete seeds"),
    "n_test": ColumnType("Int64", "number of test volumes, of all folds together"),
    "data": ColumnType("str", "data set that it was evaluated on, with its variant"),
    "task": ColumnType("str", "target that is predicted"),
    "plane": ColumnType("str", "plane of the exam"),
    "synthetic": ColumnType("boolean", "whether the data are generated"),
    "settings": ColumnType("str", "hash of everything that decides the numbers, code included, but seed and fold"),
    "note": ColumnType("str", "why there is no score, what was left out, or what the interval leaves out"),
}
AND_DRAWS = " and draws"  # added to the source of an interval over the draws of one seed
ONE_SEED = "one seed: the interval leaves out the variance of the encoder's seed"
Folds = Mapping[int, Evaluated]


class Point(NamedTuple):
    """A point of a curve: the quantity that varies, and its value."""

    condition: str
    share: float

    @classmethod
    def of(cls, recipe: EvaluationRecipe) -> Point:
        """Return the point of an evaluation."""
        return cls("labels", recipe.labels) if recipe.positives is None else cls("positives", recipe.positives)


class Repeated(NamedTuple):
    """The evaluations at one point.

    Attributes:
        seeds: in order.
        draws: draws that every seed has in every fold.
        folds: evaluations by (seed, draw), then by fold.
        note: draws that are left out.
    """

    seeds: tuple[int, ...]
    draws: tuple[int, ...]
    folds: Mapping[tuple[int, int], Folds]
    note: str


def curves(evaluated: Sequence[Evaluated], board: Sequence[Standing]) -> pd.DataFrame:
    """Return one row per method, backbone, protocol and share; see :data:`COLUMNS`. Empty if there are no curves.

    The curve of labels ends with all of them. The draws of a seed share its encoder, so their mean is one repetition:
    the variance of these means, of encoders and draws together, is added to that of the patients (see
    :mod:`ssl3d.evaluate.statistics.inference`). With one seed the draws are the repetitions, and a note says that the
    variance of the encoder's seed is not included. Draws that are not complete for every seed and fold are left out.

    Args:
        evaluated: evaluations with all or some of the labels.
        board: standings with all labels.

    Raises:
        RunError: the test cases of evaluations in one table differ.
    """
    points: dict[Key, dict[Point, list[Evaluated]]] = {}
    for one in evaluated:
        if one.record.recipe.condition:
            points.setdefault(key_of(one), {}).setdefault(Point.of(one.record.recipe), []).append(one)
    cases = reference_cases(evaluated)
    whole = {standing.entry.key: standing for standing in board if standing.entry.done}
    rows = []
    order = {key: index for index, key in enumerate(whole)}
    for key in sorted(points, key=lambda key: (order.get(key, len(order)), key)):
        if key in whole and any(point.condition == "labels" for point in points[key]):
            rows.append(_whole_row(whole[key]))
        for point in sorted(points[key], key=lambda point: (point.condition, -point.share)):
            repeated = _repeated(points[key][point])
            if repeated.draws:
                rows.append(_row(key, point, repeated, cases))
    return typed(rows, COLUMNS)


def _repeated(group: Iterable[Evaluated]) -> Repeated:
    """Sort evaluations by seed and draw; keep the draws that every seed has in every fold."""
    folds: dict[tuple[int, int], dict[int, Evaluated]] = {}
    for one in group:
        where = one.encoder.recipe.seed, one.record.recipe.draw
        folds.setdefault(where, {}).setdefault(one.record.recipe.fold, one)
    wanted = next(iter(next(iter(folds.values())).values())).record.recipe.folds or 1
    whole = {where: found for where, found in folds.items() if len(found) == wanted}
    seeds = sorted({seed for seed, _ in whole})
    draws = sorted({draw for _, draw in whole})
    kept = tuple(draw for draw in draws if all((seed, draw) in whole for seed in seeds))
    left_out = sorted({draw for _, draw in folds} - set(kept))
    note = f"draw {', '.join(map(str, left_out))} is left out: not done for every seed and fold" if left_out else ""
    return Repeated(tuple(seeds), kept, whole, note)


def _row(key: Key, point: Point, repeated: Repeated, cases: Mapping[Where, pd.DataFrame]) -> dict[str, Any]:
    """Return the row of a label subset: its draws, seed after seed, are treated as seeds."""
    layers = [repeated.folds[seed, draw] for seed in repeated.seeds for draw in repeated.draws]
    parts = [
        part
        for fold in sorted(layers[0])
        for part in parts_of([folds[fold] for folds in layers], cases[(*key.table, fold)])
    ]
    done = tuple(one for folds in layers for one in folds.values())
    entry = Entry(key, tuple(range(len(layers))), done, (), tuple(parts), metric=metric_of(done))
    seeds, draws = len(repeated.seeds), len(repeated.draws)
    row = _common(entry, point, _interval(entry, seeds, draws), seeds, draws)
    first = layers[0][min(layers[0])].record
    return row | {
        **{"n_labels": first.n_labels, "n_positive": first.n_positive},
        "note": joined([str(row["note"]), repeated.note]),
    }


def _whole_row(standing: Standing) -> dict[str, Any]:
    """Return the row for all labels, as on the leaderboard."""
    entry = standing.entry
    row = _common(entry, Point("labels", 1.0), (standing.interval, standing.interval_from), len(entry.seeds), 1)
    first = entry.done[0].record
    return row | {"n_labels": first.n_labels, "n_positive": first.n_positive}


def _common(
    entry: Entry, point: Point, interval_and_source: tuple[Interval | None, str], seeds: int, draws: int
) -> dict[str, Any]:
    key, (interval, interval_from) = entry.key, interval_and_source
    row: dict[str, Any] = {
        **{"method": key.method, "backbone": key.backbone, "protocol": key.protocol, **point._asdict()},
        **{"metric": entry.metric, "score": entry.score, "interval": interval_from},
        **{"draws": draws, "seeds": seeds, "n_test": entry.cases},
        **{"data": key.data, "task": key.task, "plane": key.plane, "settings": key.settings},
        "synthetic": entry.done[0].record.data.synthetic,
        "note": ONE_SEED if seeds == 1 else "",
    }
    if interval is not None:
        row |= {"ci_low": interval.low, "ci_high": interval.high}
    if len(entry.scores) > 1:
        row["spread"] = float(np.reshape(entry.scores, (_repetitions(seeds, draws), -1)).mean(axis=1).std(ddof=1))
    if entry.score is None:
        row["note"] = joined(one.record.score.reasons.get(entry.metric) for one in entry.done)
    return row


def _interval(entry: Entry, seeds: int, draws: int) -> tuple[Interval | None, str]:
    """Return the interval and its source; with one draw, as on the leaderboard."""
    if draws > 1:
        interval = repeated_interval(entry, _repetitions(seeds, draws))
        varied = source(entry, seeds) if seeds > 1 else source(entry, 1) + AND_DRAWS
        return interval, "" if interval is None else varied
    standing = standings([entry])[0][0]
    return standing.interval, standing.interval_from


def _repetitions(seeds: int, draws: int) -> int:
    """Return the number of independent repetitions: the seeds, or the draws of a single one."""
    return seeds if seeds > 1 else draws

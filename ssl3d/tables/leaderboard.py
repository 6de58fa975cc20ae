"""The leaderboard: one row a method, backbone, protocol, task and plane, aggregated over seeds and folds.

Loads neither torch nor scikit-learn.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ssl3d.results.records import CellResult, ProtocolScore
from ssl3d.tables.entries import Results, entries, settings_hash
from ssl3d.tables.entry import PLUS, Entry
from ssl3d.tables.standings import Standing, standings
from ssl3d.tables.typed import Column, Columns, typed

METRICS = {
    "average_precision": "area under the precision-recall curve",
    "balanced_accuracy": "mean of sensitivity and specificity at the threshold chosen on training data",
    "accuracy": "share of right answers at that threshold",
    "sensitivity": "share of the positive cases found",
    "specificity": "share of the negative cases cleared",
    "f1": "F1 of the positive class; macro for more than two classes",
    "mcc": "Matthews correlation coefficient",
    "brier": "Brier score, smaller is better",
    "ece": "expected calibration error, smaller is better",
    "log_loss": "log loss, for more than two classes; smaller is better",
}
COLUMNS: Columns = {
    "rank": Column("Int64", "1 + number of methods shown to be better in this task, plane and protocol; ties"),
    "group": Column("str", "methods that share a letter cannot be separated"),
    "method": Column("str", "name of the method"),
    "backbone": Column("str", "name of the backbone"),
    "protocol": Column("str", "linear, knn or finetune"),
    "auc": Column("float64", "area under the ROC curve on the test cases, mean over seeds and folds; macro for K > 2"),
    "ci_low": Column("float64", "lower 95% limit of auc"),
    "ci_high": Column("float64", "upper 95% limit of auc"),
    "interval": Column("str", "DeLong (one seed), or bootstrap (over cases and seeds)"),
    "seeds": Column("Int64", "number of finished seeds"),
    "spread": Column("float64", "standard deviation of auc over seeds"),
    **{name: Column("float64", f"{meaning}; mean over seeds") for name, meaning in METRICS.items()},
    "exactness": Column("str", "what accumulation did to the gradient"),
    "collapsed": Column("boolean", "whether the features of any seed have collapsed"),
    "pretrain_seconds": Column("float64", "time of pretraining, mean over seeds"),
    "volumes_per_second": Column("float64", "speed of pretraining, mean over seeds"),
    "peak_memory_bytes": Column("float64", "peak memory on the device, mean over seeds"),
    "flops": Column("float64", "floating-point operations of pretraining, mean over seeds"),
    "device": Column("str", "hardware"),
    "data": Column("str", "data set"),
    "task": Column("str", "label that is predicted; several: every score is a mean over them"),
    "plane": Column("str", "plane of the exam; several: their combination"),
    "synthetic": Column("boolean", "whether the data are generated"),
    "n_test": Column("Int64", "number of test volumes, of all folds together"),
    "folds": Column("Int64", "outer folds, over which every score is a mean; missing: the data set's own split"),
    "settings": Column("str", "hash of the recipe without its seed, task and fold"),
    "status": Column("str", "done; partial (some seeds or folds failed, or are not done yet); failed"),
    "departures": Column("str", "what this implementation does differently from the paper"),
    "note": Column("str", "why something is missing, failed, or was adjusted"),
}
CELL_COLUMNS: Columns = {
    "cell": Column("str", "name of the cell and of its folder"),
    "status": Column("str", "done or failed"),
    "reason": Column("str", "why it failed"),
    "method": Column("str", "name of the method"),
    "backbone": Column("str", "name of the backbone"),
    "seed": Column("Int64", "seed of the cell"),
    "protocol": Column("str", "linear, knn or finetune; missing for a failed cell"),
    "auc": Column("float64", "area under the ROC curve"),
    "auc_low": Column("float64", "lower 95% limit (DeLong)"),
    "auc_high": Column("float64", "upper 95% limit (DeLong)"),
    **{name: Column("float64", meaning) for name, meaning in METRICS.items()},
    "threshold": Column("float64", "chosen on training data"),
    "chosen": Column("str", "JSON: what the protocol chose inside the training data"),
    "protocol_seconds": Column("float64", "time of the protocol"),
    "exactness": Column("str", "what accumulation did to the gradient"),
    "collapsed": Column("boolean", "whether the features have collapsed"),
    "feature_std": Column("float64", "deviation of the normalised features, times sqrt(F); near 0: collapsed"),
    "rankme": Column("float64", "effective rank of the features"),
    "pretrain_seconds": Column("float64", "time of pretraining"),
    "volumes_per_second": Column("float64", "speed of pretraining"),
    "peak_memory_bytes": Column("Int64", "peak memory on the device"),
    "flops": Column("float64", "floating-point operations of pretraining"),
    "device": Column("str", "hardware"),
    "data": Column("str", "data set"),
    "task": Column("str", "label that is predicted"),
    "plane": Column("str", "plane of the exam"),
    "synthetic": Column("boolean", "whether the data are generated"),
    "fingerprint": Column("str", "of the bytes of the data"),
    "n_train": Column("Int64", "number of training volumes with a label"),
    "n_test": Column("Int64", "number of test volumes with a label"),
    "classes": Column("Int64", "number of classes"),
    "recipe": Column("str", "hash of the recipe"),
    "settings": Column("str", "hash of the recipe without its seed"),
    "versions": Column("str", "JSON: versions of what ran"),
    "departures": Column("str", "what this implementation does differently from the paper"),
    "notes": Column("str", "what was adjusted, and why a score is missing"),
    "finished_at": Column("str", "time, ISO 8601"),
}


def leaderboard(results: Results) -> pd.DataFrame:
    """Return the leaderboard of comparable cells; see :data:`COLUMNS`.

    Rows are ordered by task, plane and protocol, then by AUC, best first. Failed cells come last, with their reason.

    Args:
        results: cells with their predictions, as :func:`ssl3d.results.records.read_results` gives them.

    Raises:
        RunError: the cells were not judged on the same data in the same way.
    """
    return typed([_row(standing) for standing in standings(entries(results))[0]], COLUMNS)


def cells(results: Results) -> pd.DataFrame:
    """Return one row a cell and protocol, with everything that is known of it; see :data:`CELL_COLUMNS`."""
    rows = []
    for cell, _ in results:
        if PLUS in str(cell.recipe.data.plane):
            continue  # planes combined: derived, no cell was run
        for protocol, score in cell.scores.items() or [(None, ProtocolScore(metrics={}))]:
            rows.append(_cell_row(cell, protocol, score))
    return typed(rows, CELL_COLUMNS)


def _row(standing: Standing) -> dict[str, Any]:
    entry = standing.entry
    key = entry.key
    row: dict[str, Any] = {
        "rank": standing.rank,
        "group": standing.group,
        **key._asdict(),
        "auc": entry.auc,
        "interval": standing.interval_from,
        "seeds": len(entry.seeds),
        "status": _status(entry),
        "note": _note(standing),
    }
    if standing.interval is not None:
        row |= {"ci_low": standing.interval.low, "ci_high": standing.interval.high}
    if len(entry.aucs) > 1:
        row["spread"] = float(np.std(entry.aucs, ddof=1))
    for name in METRICS:
        row[name] = _mean(cell.scores[key.protocol].metrics.get(name) for cell in entry.done)
    if entry.parts:
        row["n_test"] = entry.cases
    return _shared(entry.done or entry.failed or entry.unfinished) | row


def _status(entry: Entry) -> str:
    if not entry.done:
        return "failed" if failed(entry) else "partial"
    return "partial" if entry.failed or entry.unfinished else "done"


def failed(entry: Entry) -> bool:
    """Whether a cell of an entry failed. Planes that are not combined are no cell: one of theirs is missing."""
    return bool(entry.failed) and PLUS not in entry.key.plane


def _shared(group: Sequence[CellResult]) -> dict[str, Any]:
    """What the cells of a row have in common, or the mean of it."""
    first = group[0]
    flags = [cell.collapse.collapsed for cell in group if cell.collapse.collapsed is not None]
    row: dict[str, Any] = {
        "exactness": first.exactness,
        "collapsed": any(flags) if flags else None,
        "device": _listed(cell.price.device for cell in group),
        "departures": _listed(sentence for cell in group for sentence in cell.departures),
        "data": first.recipe.data.name,
        "folds": first.recipe.data.folds,
    }
    for name in ("pretrain_seconds", "volumes_per_second", "peak_memory_bytes", "flops"):
        row[name] = _mean(getattr(cell.price, name) for cell in group)
    return row | ({"data": first.data.name, "synthetic": first.data.synthetic} if first.data else {})


def _note(standing: Standing) -> str:
    entry = standing.entry
    how = "failed" if failed(entry) else "is left out"
    notes = [f"seed {cell.recipe.seed} {how}: {cell.reason}" for cell in entry.failed]
    notes += entry.notes
    for cell in entry.done:
        score = cell.scores[entry.protocol]
        notes += cell.notes
        notes += [f"no {name}: {reason}" for name, reason in score.reasons.items() if name == "auc"]
        notes += [str(score.chosen[key]) for key in ("note",) if key in score.chosen]
        notes += [f"converged: {score.chosen[key]}" for key in ("converged",) if key in score.chosen]
    return _listed(notes)


def _cell_row(cell: CellResult, protocol: str | None, score: ProtocolScore) -> dict[str, Any]:
    recipe = cell.recipe
    low, high = score.auc_interval or (None, None)
    notes = [*cell.notes, *(f"no {name}: {reason}" for name, reason in score.reasons.items())]
    return {
        **cell.model_dump(include={"cell", "status", "reason", "exactness", "finished_at"}),
        **{"method": recipe.method, "backbone": recipe.backbone, "seed": recipe.seed, "protocol": protocol},
        **{"auc_low": low, "auc_high": high, **score.metrics, "threshold": score.threshold},
        "chosen": json.dumps(score.chosen, sort_keys=True) if protocol else None,
        "protocol_seconds": score.seconds,
        **cell.collapse.model_dump(),
        **cell.price.model_dump(),
        **{"data": recipe.data.name, "task": recipe.data.task, "plane": recipe.data.plane},
        **(cell.data.model_dump(exclude={"name"}) | {"data": cell.data.name} if cell.data else {}),
        **{"recipe": recipe.hash(), "settings": settings_hash(recipe)},
        "versions": json.dumps(cell.versions, sort_keys=True),
        "departures": _listed(cell.departures),
        "notes": _listed(notes),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values; None if one is missing, or all."""
    values = list(values)
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _listed(sentences: Iterable[str | None]) -> str:
    """Different sentences, in order of appearance."""
    return "; ".join(dict.fromkeys(sentence for sentence in sentences if sentence))

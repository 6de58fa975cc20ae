"""The leaderboard: one row per method, backbone, protocol, task, plane and data set, aggregated over seeds and folds.

Loads no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ssl3d.results.results import Evaluated
from ssl3d.tables.columns import METRICS, Columns, ColumnType, grid, joined, typed
from ssl3d.tables.comparable import version_note
from ssl3d.tables.entry import Entry, Key
from ssl3d.tables.standings import Standing

COLUMNS: Columns = {
    "rank": ColumnType("Int64", "within a table and protocol, of methods with several seeds; shared with a letter"),
    "group": ColumnType("str", "methods that share a letter cannot be separated"),
    "method": ColumnType("str", "name of the method"),
    "backbone": ColumnType("str", "name of the backbone"),
    "protocol": ColumnType("str", "how encoders were evaluated: linear, knn, attentive, finetune, or another plugin"),
    "readout": ColumnType("str", "features that were evaluated, as the training cases chose: last, multi, max, ..."),
    "view_size": ColumnType("str", "slices x rows x columns of a volume as the encoder was evaluated on it"),
    "metric": ColumnType("str", "what ranks methods on this kind of task: auc, quadratic_kappa (ordinal) or mae"),
    "score": ColumnType("float64", "that metric on the test cases, mean over seeds, folds and labels"),
    "ci_low": ColumnType("float64", "lower 95% limit of score"),
    "ci_high": ColumnType("float64", "upper 95% limit of score"),
    "interval": ColumnType(
        "str", "DeLong (one seed: of this encoder), or DeLong and seeds; influence functions if no AUC"
    ),
    "about": ColumnType("str", "methods, or encoders: with one seed, the row is of one encoder of the method"),
    "seeds": ColumnType("Int64", "number of complete seeds"),
    "spread": ColumnType("float64", "standard deviation of score over seeds"),
    **{name: ColumnType("float64", f"{meaning}; mean over seeds") for name, meaning in METRICS.items()},
    "labels_used": ColumnType("boolean", "whether the method saw labels of the training volumes in pretraining"),
    "exactness": ColumnType("str", "what accumulation did to the gradient, as measured before training"),
    "gradient_error": ColumnType(
        "float64", "relative error of the accumulated gradient, largest over seeds; missing if not split"
    ),
    "collapsed": ColumnType("boolean", "whether the features of any seed have collapsed"),
    "pretrain_seconds": ColumnType("float64", "time of pretraining, mean over seeds"),
    "volumes_per_second": ColumnType("float64", "speed of pretraining, mean over seeds"),
    "peak_memory_bytes": ColumnType("float64", "peak memory on the device, mean over seeds"),
    "flops": ColumnType("float64", "floating-point operations of pretraining, mean over seeds"),
    "tuned": ColumnType("str", "factors of the recipe's learning rate that it was chosen from; missing: not tuned"),
    "lr": ColumnType("str", "base learning rate of pretraining, the chosen one if tuned; several if folds differ"),
    "tuning_seconds": ColumnType("float64", "time of choosing the learning rate, once for all seeds; mean over folds"),
    "tuning_flops": ColumnType("float64", "floating-point operations of its trials; mean over folds"),
    "device": ColumnType("str", "hardware"),
    "corpus": ColumnType("str", "what the encoder was pretrained on; missing if it was not trained"),
    "data": ColumnType("str", "data set that it was evaluated on, with its variant"),
    "task": ColumnType("str", "target that is predicted; several: every score is a mean over them"),
    "plane": ColumnType("str", "plane of the exam; several: their combination"),
    "kind": ColumnType("str", "of the task: binary, multiclass, multilabel, ordinal or regression"),
    "synthetic": ColumnType("boolean", "whether the data are generated"),
    "n_test": ColumnType("Int64", "number of test volumes, of all folds together"),
    "n_test_patients": ColumnType("Int64", "number of patients that these are of"),
    "patients_known": ColumnType("boolean", "false: patients are unknown, and every volume is taken for one"),
    "folds": ColumnType("Int64", "outer folds, over which every score is a mean; missing: the data set's own split"),
    "primary": ColumnType(
        "boolean", "whether the row is of the run's primary comparison, fixed by its request; missing if unknown"
    ),
    "settings": ColumnType("str", "hash of everything that decides the numbers, code included, but seed and fold"),
    "status": ColumnType("str", "done; partial (some seeds or folds failed, or are not done yet); failed"),
    "departures": ColumnType("str", "what this implementation does differently from the paper"),
    "note": ColumnType("str", "why something is missing or failed, or what was adjusted"),
}


FEW = 20  # test patients of the smallest class, below which the coverage of intervals was not shown
_OF_SEED = ("pretrain_seconds", "volumes_per_second", "peak_memory_bytes", "flops")


def leaderboard(standings: Sequence[Standing], primary: tuple[str, str, str, str] | None = None) -> pd.DataFrame:
    """Return one row per standing; see :data:`COLUMNS`.

    Rows are ordered by data set, task, plane and protocol, then by score, best first. Rows without a score come last.

    Args:
        standings: in the order of the table.
        primary: data set, task, plane and protocol of the primary comparison.
    """
    code = _code_notes([standing.entry for standing in standings])
    rows = [_row(standing, code.get(standing.entry.key, "")) for standing in standings]
    for row, standing in zip(rows, standings, strict=True):
        row["primary"] = None if primary is None else standing.entry.key.compared == primary
    return typed(rows, COLUMNS)


def has_failed(entry: Entry) -> bool:
    """Return whether an evaluation of an entry failed. If planes cannot be combined, one of theirs is missing."""
    return bool(entry.failed) and not entry.key.is_combined


def _row(standing: Standing, code_note: str) -> dict[str, Any]:
    entry = standing.entry
    row: dict[str, Any] = {
        "rank": standing.rank,
        "group": standing.group,
        **entry.key._asdict(),
        "metric": entry.metric if entry.done else None,
        "score": entry.score,
        "interval": standing.interval_from,
        "about": "methods" if len(entry.seeds) > 1 else "encoders" if entry.seeds else None,
        "seeds": len(entry.seeds),
        "status": _status(entry),
        "note": joined([*_notes(entry), _few(standing), code_note]),
    }
    if standing.interval is not None:
        row |= {"ci_low": standing.interval.low, "ci_high": standing.interval.high}
    if len(entry.scores) > 1:
        row["spread"] = float(np.std(entry.scores, ddof=1))
    for name in METRICS:
        row[name] = _mean(one.record.score.metrics.get(name) for one in entry.done)
    if entry.parts:
        row |= {"n_test": entry.cases, "n_test_patients": entry.patients}
    known = entry.done or entry.unfinished
    folds = known[0].record.recipe.folds if known else entry.failed[0].evaluation.recipe.folds
    return row | {"folds": folds} | (_shared(known) if known else {})


def _few(standing: Standing) -> str:
    """Return a note if the smallest class has so few test patients that intervals are rough."""
    if standing.smallest is None or standing.smallest >= FEW:
        return ""
    of = "of the smallest class" if standing.entry.metric == "auc" else "in all"
    return f"{standing.smallest} test patients {of}, fewer than {FEW}: the interval is approximate"


def _status(entry: Entry) -> str:
    if not entry.done:
        return "failed" if has_failed(entry) else "partial"
    return "partial" if entry.failed or entry.unfinished else "done"


def _shared(group: Sequence[Evaluated]) -> dict[str, Any]:
    """Return the values that the evaluations of a row share, or their means."""
    encoders = list({one.encoder.key: one.encoder for one in group}.values())
    flags = [encoder.collapse.collapsed for encoder in encoders if encoder.collapse.collapsed is not None]
    errors = [encoder.gradient_error for encoder in encoders if encoder.gradient_error is not None]
    prices = {
        name: _mean(getattr(encoder.price, name) for encoder in encoders)
        for name in (*_OF_SEED, "tuning_seconds", "tuning_flops")
    }
    return {
        "labels_used": any(encoder.labels_used for encoder in encoders),
        "exactness": joined(encoder.exactness for encoder in encoders),
        "gradient_error": max(errors, default=None),
        "collapsed": any(flags) if flags else None,
        **prices,
        "tuned": joined(grid(encoder.recipe.pretrain.tune_lr) for encoder in encoders if encoder.recipe.pretrain),
        "lr": joined(f"{encoder.lr:.6g}" for encoder in encoders if encoder.lr is not None),
        "device": joined(encoder.price.device for encoder in encoders),
        "departures": joined(sentence for encoder in encoders for sentence in encoder.departures),
        "corpus": joined(encoder.corpus.name for encoder in encoders if encoder.corpus),
        "readout": _readouts(group),
        "view_size": joined("x".join(map(str, one.record.recipe.view_size)) for one in group),
        "kind": joined(one.record.data.task.kind for one in group),
        "synthetic": group[0].record.data.synthetic,
        "patients_known": all(one.record.data.patients_known for one in group),
    }


def _readouts(group: Sequence[Evaluated]) -> str:
    """Return the read-outs, the most frequent first: "multi", or "multi 4, last 1" if seeds or folds disagree."""
    found = Counter(one.record.readout for one in group).most_common()
    return found[0][0] if len(found) == 1 else ", ".join(f"{name} {count}" for name, count in found)


def _notes(entry: Entry) -> list[str]:
    how = "failed" if has_failed(entry) else "is left out"
    notes = [f"seed {one.encoder.recipe.seed} {how}: {one.reason}" for one in entry.failed]
    notes += entry.notes
    for one in entry.done:
        score = one.record.score
        notes += [*one.encoder.notes, *one.record.notes]
        notes += [f"no {name}: {reason}" for name, reason in score.reasons.items() if name == entry.metric]
        notes += [str(score.chosen[name]) for name in ("note",) if name in score.chosen]
        notes += [f"converged: {score.chosen[name]}" for name in ("converged",) if name in score.chosen]
    return [
        *notes,
        version_note(made_by for one in entry.done for made_by in (one.encoder.made_by, one.record.made_by)),
    ]


def _code_notes(entries: Sequence[Entry]) -> Mapping[Key, str]:
    """Return notes on entries of one table and name whose code differs; each names the others' settings."""
    alike: dict[Key, list[Entry]] = {}
    for entry in entries:
        if entry.done:
            alike.setdefault(entry.key._replace(settings=""), []).append(entry)
    notes = {}
    for group in alike.values():
        for entry in group:
            differ = [other.key.settings for other in group if _code(other) != _code(entry)]
            if differ:
                notes[entry.key] = f"its code differs from that of settings {', '.join(dict.fromkeys(differ))}"
    return notes


def _code(entry: Entry) -> tuple[object, ...]:
    one = entry.done[0]
    return tuple((made_by.numerics, made_by.sources) for made_by in (one.encoder.made_by, one.record.made_by))


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values; None if any is missing, or there are none."""
    values = list(values)
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None

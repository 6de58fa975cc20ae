"""Comparisons: one row per pair of methods under one protocol, on the same test cases. Loads no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from ssl3d.tables.columns import Columns, ColumnType, typed
from ssl3d.tables.entry import Entry, Key
from ssl3d.tables.standings import Pair

COLUMNS: Columns = {
    "protocol": ColumnType("str", "how encoders were evaluated: linear, knn, attentive, finetune, or another plugin"),
    "metric": ColumnType("str", "what is compared: auc, quadratic_kappa, spearman, mae or r2"),
    "label": ColumnType("str", "the only label of a multi-label task that is compared; missing: the mean over labels"),
    "primary": ColumnType("boolean", "whether this metric decides ranks and letters"),
    "method_a": ColumnType("str", "method with the better score"),
    "backbone_a": ColumnType("str", "its backbone"),
    "method_b": ColumnType("str", "method with the worse score"),
    "backbone_b": ColumnType("str", "its backbone"),
    "score_a": ColumnType("float64", "mean over seeds"),
    "score_b": ColumnType("float64", "mean over seeds"),
    "difference": ColumnType("float64", "score_a - score_b; below 0 for errors, of which A has the smaller"),
    "ci_low": ColumnType("float64", "lower 95% limit of the difference, not corrected for the number of pairs"),
    "ci_high": ColumnType("float64", "upper 95% limit of the difference"),
    "test": ColumnType("str", "DeLong (one seed each), or DeLong and seeds; over patients, within folds"),
    "p": ColumnType("float64", "two-sided p value of no difference"),
    "p_holm": ColumnType(
        "float64", "p corrected for the number of pairs of this table, protocol, metric and label (Holm)"
    ),
    "smallest_detectable": ColumnType(
        "float64", "true difference that this test, corrected for the number of pairs, finds with 80% power at 5%"
    ),
    "missed_below": ColumnType(
        "float64", "true difference that this test finds with 50% power; a smaller one would probably have been missed"
    ),
    "about": ColumnType("str", "methods, or encoders: where a side has one seed, one encoder of it is compared"),
    "verdict": ColumnType(
        "str", "if p_holm < 0.05 'A better than B', or that this encoder of A scores better; else 'cannot be separated'"
    ),
    "seeds_a": ColumnType("Int64", "complete seeds"),
    "seeds_b": ColumnType("Int64", "complete seeds"),
    "n_test": ColumnType("Int64", "number of test volumes, of all folds together"),
    "folds": ColumnType("Int64", "outer folds, over which scores are means; missing: the data set's own split"),
    "data": ColumnType("str", "data set that both were evaluated on, with its variant"),
    "task": ColumnType("str", "target that is predicted; several: the mean of their scores"),
    "plane": ColumnType("str", "plane of the exam; several: their combination"),
    "synthetic": ColumnType("boolean", "whether the data are generated"),
    "settings_a": ColumnType("str", "hash of everything that decides the numbers of A, but seed and fold"),
    "settings_b": ColumnType("str", "hash of everything that decides the numbers of B, but seed and fold"),
}


def comparisons(entries: Sequence[Entry], pairs: Sequence[Pair]) -> pd.DataFrame:
    """Return one row per pair; see :data:`COLUMNS`.

    Args:
        entries: all entries, which decide how much of a name a verdict needs.
        pairs: pairs of these entries.
    """
    names = short_names({entry.key for entry in entries})
    return typed([_row(pair, names) for pair in pairs], COLUMNS)


def short_names(keys: Collection[Key]) -> dict[Key, str]:
    """Return short names of entries for sentences: method, with backbone and settings if needed."""
    pairs = {(key.method, key.backbone) for key in keys}
    several = len(pairs) > len({method for method, _ in pairs})  # each control has its own backbone
    names = {key: f"{key.method} on {key.backbone}" if several else key.method for key in keys}
    counts = Counter((key.compared, name) for key, name in names.items())
    return {key: f"{name} ({key.settings})" if counts[key.compared, name] > 1 else name for key, name in names.items()}


def _better(pair: Pair, a: str, b: str) -> str:
    """Return the conclusion from a separated pair: one seed on either side says nothing about methods."""
    if pair.about == "methods":
        return f"{a} better than {b}"
    return f"this encoder of {a} scores better than this encoder of {b}"


def _row(pair: Pair, names: Mapping[Key, str]) -> dict[str, Any]:
    a, b, test = pair.a, pair.b, pair.test
    first = a.done[0].record
    better = _better(pair, names[a.key], names[b.key])
    return {
        **{"protocol": a.key.protocol, "metric": a.metric, "label": a.label, "primary": a.primary},
        **{"method_a": a.key.method, "backbone_a": a.key.backbone, "settings_a": a.key.settings, "score_a": a.score},
        **{"method_b": b.key.method, "backbone_b": b.key.backbone, "settings_b": b.key.settings, "score_b": b.score},
        **{"seeds_a": len(a.seeds), "seeds_b": len(b.seeds)},
        **{"difference": test.estimate, "ci_low": test.low, "ci_high": test.high},
        **{"test": pair.method, "p": test.p, "p_holm": pair.p_holm, "smallest_detectable": pair.detectable},
        "missed_below": pair.missed_below,
        "about": pair.about,
        "verdict": better if pair.separated else "cannot be separated",
        **{"data": a.key.data, "task": a.key.task, "plane": a.key.plane},
        **{"n_test": a.cases, "folds": first.recipe.folds, "synthetic": first.data.synthetic},
    }

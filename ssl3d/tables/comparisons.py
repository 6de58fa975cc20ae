"""Comparisons: one row a pair of methods under one protocol, on the same test cases. Loads no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from ssl3d.tables.entries import Results, entries
from ssl3d.tables.entry import Key
from ssl3d.tables.standings import Pair, standings
from ssl3d.tables.typed import Column, Columns, typed

COLUMNS: Columns = {
    "protocol": Column("str", "linear, knn or finetune"),
    "method_a": Column("str", "method with the higher AUC"),
    "backbone_a": Column("str", "its backbone"),
    "method_b": Column("str", "method with the lower AUC"),
    "backbone_b": Column("str", "its backbone"),
    "auc_a": Column("float64", "mean over seeds"),
    "auc_b": Column("float64", "mean over seeds"),
    "difference": Column("float64", "auc_a - auc_b"),
    "ci_low": Column("float64", "lower 95% limit of the difference, not corrected for the number of pairs"),
    "ci_high": Column("float64", "upper 95% limit of the difference"),
    "test": Column("str", "DeLong (one seed each), or bootstrap (over cases and seeds); within folds"),
    "p": Column("float64", "two-sided p value of no difference"),
    "p_holm": Column("float64", "p corrected for the number of pairs of this task, plane and protocol (Holm)"),
    "smallest_detectable": Column("float64", "difference that one such test finds with 80% power at 5%"),
    "verdict": Column("str", "'A better than B' if p_holm < 0.05, else 'cannot be separated'"),
    "seeds_a": Column("Int64", "finished seeds"),
    "seeds_b": Column("Int64", "finished seeds"),
    "n_test": Column("Int64", "number of test volumes, of all folds together"),
    "folds": Column("Int64", "outer folds, over which auc is a mean; missing: the data set's own split"),
    "data": Column("str", "data set"),
    "task": Column("str", "label that is predicted; several: the mean of their AUCs"),
    "plane": Column("str", "plane of the exam; several: their combination"),
    "synthetic": Column("boolean", "whether the data are generated"),
    "settings_a": Column("str", "hash of the recipe without its seed"),
    "settings_b": Column("str", "hash of the recipe without its seed"),
}


def comparisons(results: Results) -> pd.DataFrame:
    """Return every pair of methods and backbones within a task, plane and protocol; see :data:`COLUMNS`.

    Raises:
        RunError: the cells were not judged on the same data in the same way.
    """
    found = entries(results)
    names = short_names({entry.key for entry in found})
    return typed([_row(pair, names) for pair in standings(found)[1]], COLUMNS)


def _row(pair: Pair, names: Mapping[Key, str]) -> dict[str, Any]:
    a, b, outcome = pair.a, pair.b, pair.outcome
    better = f"{names[a.key]} better than {names[b.key]}"
    data = a.done[0].data
    return {
        "protocol": a.protocol,
        **{"method_a": a.key.method, "backbone_a": a.key.backbone, "settings_a": a.key.settings, "auc_a": a.auc},
        **{"method_b": b.key.method, "backbone_b": b.key.backbone, "settings_b": b.key.settings, "auc_b": b.auc},
        **{"seeds_a": len(a.seeds), "seeds_b": len(b.seeds)},
        **{"difference": outcome.estimate, "ci_low": outcome.low, "ci_high": outcome.high},
        **{"test": pair.test, "p": outcome.p, "p_holm": pair.p_holm, "smallest_detectable": pair.detectable},
        "verdict": better if pair.separated else "cannot be separated",
        **{"task": a.key.task, "plane": a.key.plane, "n_test": a.cases, "folds": a.done[0].recipe.data.folds},
        **({"data": data.name, "synthetic": data.synthetic} if data else {}),
    }


def short_names(keys: Collection[Key]) -> dict[Key, str]:
    """Return names of entries for sentences: as short as tells them apart, by method, backbone and settings."""
    several = len({key.backbone for key in keys}) > 1
    names = {key: f"{key.method} on {key.backbone}" if several else key.method for key in keys}
    counts = Counter((key.table, name) for key, name in names.items())
    return {key: f"{name} ({key.settings})" if counts[key.table, name] > 1 else name for key, name in names.items()}

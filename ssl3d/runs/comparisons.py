"""Comparisons: one row a pair of methods under one protocol, on the same test cases. Loads no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ssl3d.runs.entries import Entry, Key, Results, entries
from ssl3d.runs.standings import Pair, standings
from ssl3d.runs.table import Column, Columns, typed

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
    "test": Column("str", "DeLong (one seed each), or bootstrap (over cases and seeds)"),
    "p": Column("float64", "two-sided p value of no difference"),
    "p_holm": Column("float64", "p corrected for the number of pairs under this protocol (Holm)"),
    "smallest_detectable": Column("float64", "difference that one such test finds with 80% power at 5%"),
    "verdict": Column("str", "'A better than B' if p_holm < 0.05, else 'cannot be separated'"),
    "seeds_a": Column("Int64", "finished seeds"),
    "seeds_b": Column("Int64", "finished seeds"),
    "n_test": Column("Int64", "number of test volumes"),
    "data": Column("str", "data set"),
    "task": Column("str", "label that is predicted"),
    "plane": Column("str", "plane of the exam"),
    "synthetic": Column("boolean", "whether the data are generated"),
    "settings_a": Column("str", "hash of the recipe without its seed"),
    "settings_b": Column("str", "hash of the recipe without its seed"),
}


def comparisons(results: Results) -> pd.DataFrame:
    """Return every pair of methods and backbones under each protocol; see :data:`COLUMNS`.

    Raises:
        RunError: the cells were not judged on the same data in the same way.
    """
    found = entries(results)
    names = _names(found)
    return typed([_row(pair, names) for pair in standings(found)[1]], COLUMNS)


def _row(pair: Pair, names: Mapping[Key, str]) -> dict[str, Any]:
    a, b, outcome = pair.a, pair.b, pair.outcome
    better = f"{names[a.key]} better than {names[b.key]}"
    data = a.done[0].data
    return {
        "protocol": a.protocol,
        **{"method_a": a.key[1], "backbone_a": a.key[2], "settings_a": a.key[3], "auc_a": a.auc},
        **{"method_b": b.key[1], "backbone_b": b.key[2], "settings_b": b.key[3], "auc_b": b.auc},
        **{"seeds_a": len(a.done), "seeds_b": len(b.done)},
        **{"difference": outcome.estimate, "ci_low": outcome.low, "ci_high": outcome.high},
        **{"test": pair.test, "p": outcome.p, "p_holm": pair.p_holm, "smallest_detectable": pair.detectable},
        "verdict": better if pair.separated else "cannot be separated",
        "data": data.name if data else None,
        **(data.model_dump(include={"task", "plane", "synthetic", "n_test"}) if data else {}),
    }


def _names(found: Sequence[Entry]) -> dict[Key, str]:
    """Names of entries for sentences: as short as tells them apart, by method, backbone and settings."""
    several = len({entry.key[2] for entry in found}) > 1
    names = {entry.key: f"{entry.key[1]} on {entry.key[2]}" if several else entry.key[1] for entry in found}
    counts = Counter((key[0], name) for key, name in names.items())
    return {key: f"{name} ({key[3]})" if counts[key[0], name] > 1 else name for key, name in names.items()}

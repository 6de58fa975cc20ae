"""The summary over tasks as text. Loads no torch."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from ssl3d.evaluate.statistics.measures import MEASURES
from ssl3d.tables.formats.texts import digits
from ssl3d.tables.tables import Tables

MOST = 8  # methods whose wins are shown as a square; wins.csv has all
_WINS = (
    "Wins: share of bootstrap draws, tasks and other methods in which a method scores better; this is not a test, and "
    "methods that cannot be separated may have a large share."
)
_ONE_SEED = "With one seed, encoders are compared and not methods: there are no ranks, and seeds do not vary."


class Titled(NamedTuple):
    """A table of texts, and the sentences above it."""

    title: str
    table: pd.DataFrame


def overview(tables: Tables) -> list[Titled]:
    """Return the summary over tasks, and how often each method beats each other one; none if there is one task."""
    found = []
    for protocol, rows in tables.summary.groupby("protocol", sort=False):
        pairs = tables.wins[tables.wins["protocol"] == protocol]
        found.append(_summary(str(protocol), rows))
        if len(rows) <= MOST and not pairs.empty:
            found.append(_square(str(protocol), rows, pairs))
    return found


def _summary(protocol: str, rows: pd.DataFrame) -> Titled:
    first = rows.iloc[0]
    ranked = bool(rows["mean_rank"].notna().all())
    sentences = [
        f"Summary over {first['tasks']} tasks{' (synthetic data)' if first['synthetic'] else ''}, {protocol}: "
        f"{first['names']}. Every task has equal weight; intervals are at 95%, by bootstrap over patients and seeds.",
        _WINS if ranked else _ONE_SEED,
        f"Left out, since not complete in every task: {first['left_out']}." if pd.notna(first["left_out"]) else "",
    ]
    table = pd.DataFrame({"method": rows["method"], "backbone": rows["backbone"]})
    if ranked:
        table["mean rank"] = _with_limits(rows, "mean_rank", "rank_low", "rank_high")
    if pd.notna(first["metric"]):
        name = f"mean {MEASURES[str(first['metric'])].title}"
        table[name] = _with_limits(rows, "mean_score", "score_low", "score_high")
    if ranked:
        table["wins"] = [f"{value:.0%}" for value in rows["wins"]]
    table["seeds"] = rows["seeds"].astype(str)
    return Titled(" ".join(filter(None, sentences)), table)


def _with_limits(rows: pd.DataFrame, *names: str) -> list[str]:
    columns = (rows[name] for name in names)
    return [f"{digits(value)} ({digits(low)}-{digits(high)})" for value, low, high in zip(*columns, strict=True)]


def _square(protocol: str, rows: pd.DataFrame, pairs: pd.DataFrame) -> Titled:
    """Return how often the method of a row beats that of a column."""
    several = rows["method"].duplicated().any()
    names = {
        (row.method, row.backbone): f"{row.method} on {row.backbone}" if several else str(row.method)
        for row in rows.itertuples()
    }
    share = {
        ((row.method_a, row.backbone_a), (row.method_b, row.backbone_b)): f"{row.wins:.0%}"
        for row in pairs.itertuples()
    }
    table = pd.DataFrame(
        {"": list(names.values()), **{name: [share.get((a, b), "") for a in names] for b, name in names.items()}}
    )
    return Titled(
        f"Share of draws and tasks in which the method of a row scores better than that of a column ({protocol})",
        table,
    )

"""The summary over tasks as text. Loads no torch."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from ssl3d.evaluate.statistics.measures import MEASURES
from ssl3d.tables.formats.texts import digits
from ssl3d.tables.tables import Tables

MOST = 8  # methods whose wins are shown as a square; wins.csv has all
_ONE_SEED = "With one seed the variance of seeds is not included."


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
        if len(rows) <= MOST:
            found.append(_square(str(protocol), rows, pairs))
    return found


def _summary(protocol: str, rows: pd.DataFrame) -> Titled:
    first = rows.iloc[0]
    synthetic = " (synthetic data)" if first["synthetic"] else ""
    title = (
        f"Summary over {first['tasks']} tasks{synthetic}, {protocol}: {first['names']}. Each counts alike; intervals "
        "are at 95%, by bootstrap over patients and seeds. Wins: how often a method beats another one, over draws, "
        "tasks and other methods."
    )
    table = pd.DataFrame({"method": rows["method"], "backbone": rows["backbone"]})
    table["mean rank"] = [
        _with_limits(*row) for row in zip(rows["mean_rank"], rows["rank_low"], rows["rank_high"], strict=True)
    ]
    if rows["metric"].notna().all():
        name = f"mean {MEASURES[str(first['metric'])].title}"
        table[name] = [
            _with_limits(*row) for row in zip(rows["mean_score"], rows["score_low"], rows["score_high"], strict=True)
        ]
    table["wins"] = [f"{value:.0%}" for value in rows["wins"]]
    table["seeds"] = rows["seeds"].astype(str)
    return Titled(f"{title} {_ONE_SEED}" if (rows["seeds"] == 1).any() else title, table)


def _with_limits(value: float, low: float, high: float) -> str:
    return f"{digits(value)} ({digits(low)}-{digits(high)})"


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
    return Titled(f"How often the method of a row beats that of a column ({protocol})", table)

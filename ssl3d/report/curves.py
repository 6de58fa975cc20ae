"""AUC against the share of the labels, and against the share of positives among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from ssl3d.report.material import Drawing, Place, Run, Section, place_of_cell, titled
from ssl3d.report.style import MUTED, drawing, grid, plain, share_legend
from ssl3d.runs.results import CellResult

PERCENT = FuncFormatter(lambda value, _: f"{100 * value:g}%")
SPAN = "Points are means over draws and seeds, bars from the lowest to the highest of them."


def labels(run: Run) -> Section:
    """Draw AUC against the share of the training labels."""
    section = Section("labels", "Fewer labels")
    points = _points(run)
    shares = points[points["positives"].isna()] if len(points) else points
    for place, part in _by_place(shares):
        if part["labels"].nunique() > 1:
            section.drawings.append(_drawn(run, place, part, "labels", "share of the training labels"))
    if not section.drawings:
        section.notes.append(
            "Heads were trained on all labels only; `ssl3d bench --labels 0.1,0.5,1` draws this curve."
        )
    return section


def imbalance(run: Run) -> Section:
    """Draw AUC against the share of positives among the training labels."""
    section = Section("imbalance", "Fewer positives")
    points = _points(run)
    shares = points[points["positives"].notna()] if len(points) else points
    for place, part in _by_place(shares):
        section.drawings.append(_drawn(run, place, part, "positives", "share of positives in the training labels"))
    if not section.drawings:
        section.notes.append(
            "The share of positives was left as it is; `ssl3d bench --imbalance 0.5,0.2,0.05` draws this curve."
        )
    return section


def _points(run: Run) -> pd.DataFrame:
    """One row a finished cell, protocol and part of the labels with an AUC; all labels are one of the parts."""
    rows = [row for cell in run.done for row in _rows(run, cell)]
    return pd.DataFrame(rows).astype({"positives": "float64"}) if rows else pd.DataFrame()


def _rows(run: Run, cell: CellResult) -> Iterator[dict[str, Any]]:
    known = {"place": place_of_cell(cell), "name": run.name_of_cell(cell)}
    for protocol, score in cell.scores.items():
        if score.metrics.get("auc") is not None:
            yield {**known, "protocol": protocol, "labels": 1.0, "positives": None, "auc": score.metrics["auc"]}
    for point in cell.curve:
        if point.score.metrics.get("auc") is not None:
            part = {"protocol": point.protocol, "labels": point.labels, "positives": point.positives}
            yield {**known, **part, "auc": point.score.metrics["auc"]}


def _by_place(points: pd.DataFrame) -> Iterator[tuple[Place, pd.DataFrame]]:
    for place in points["place"].drop_duplicates() if len(points) else ():
        yield place, points[[other == place for other in points["place"]]]


def _drawn(run: Run, place: Place, points: pd.DataFrame, share: str, what: str) -> Drawing:
    protocols = list(points["protocol"].drop_duplicates())
    names = [name for name in run.looks if name in set(points["name"])]
    with drawing():
        figure, axes = grid(len(protocols), 2, (3.8, 2.8), sharey=True)
        for ax, protocol in zip(axes, protocols, strict=True):
            for index, name in enumerate(names):
                part = points[(points["protocol"] == protocol) & (points["name"] == name)]
                _line(ax, run, name, part, share, nudge=1 + 0.03 * (index - (len(names) - 1) / 2))
            _finish(ax, protocol, sorted(points[share].unique()), what)
        axes[0].set_ylabel("AUC")
        share_legend(figure, axes)
    return Drawing(
        f"{share}-{'-'.join(place)}",
        titled(place),
        f"AUC on the same test cases, by the {what}. {SPAN}",
        f"AUC of {', '.join(names)} by the {what}, from {points[share].min():g} to {points[share].max():g}.",
        figure,
    )


def _line(ax: Axes, run: Run, name: str, points: pd.DataFrame, share: str, *, nudge: float) -> None:
    """One method's means and ranges; ``nudge`` keeps bars at one share from hiding each other."""
    if points.empty:
        return
    table = points.groupby(share)["auc"].agg(["mean", "min", "max"])
    look = run.looks[name]
    around = np.vstack([table["mean"] - table["min"], table["max"] - table["mean"]])
    ax.errorbar(
        table.index.to_numpy(float) * nudge,
        table["mean"].to_numpy(),
        yerr=around,
        color=look.colour,
        marker=look.marker,
        linestyle=look.dashes,
        elinewidth=1,
        label=plain(name),
    )


def _finish(ax: Axes, protocol: str, shares: list[float], what: str) -> None:
    ax.axhline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.set_xscale("log")
    ax.set_xticks(shares)
    ax.xaxis.set_major_formatter(PERCENT)
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_title(plain(protocol))
    ax.set_xlabel(what)

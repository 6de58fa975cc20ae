"""The score of a figure or a sentence: its name, unit, direction and axis, whatever ranks methods on the task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ssl3d.evaluate.statistics.measures import MEASURES, Measure
from ssl3d.report.style import MUTED
from ssl3d.tables.formats.texts import digits

Row = Mapping[str, Any]  # of a table
MARGIN = 0.04  # of the range of an axis
ENDS = ("score", "ci_low", "ci_high")
DASHED = (0, (4, 3))


@dataclass(frozen=True)
class Score:
    """The score that ranks methods in one table.

    Attributes:
        measure: what it is.
        unit: of an error, "years"; "" if there is none.
    """

    measure: Measure
    unit: str = ""

    @property
    def title(self) -> str:
        """Its name: "AUC", "kappa" or "MAE"."""
        return self.measure.title

    @property
    def axis(self) -> str:
        """Title of an axis: "AUC", "MAE (years), smaller is better"."""
        direction = "" if self.measure.sign > 0 else ", smaller is better"
        return self.title + (f" ({self.unit})" if self.unit else "") + direction

    @property
    def best(self) -> str:
        """The best value in words: "the highest AUC", "the smallest MAE"."""
        return f"the {'highest' if self.measure.sign > 0 else 'smallest'} {self.title}"

    @property
    def chance(self) -> str:
        """What the line of chance is, after a space; empty if the measure has none."""
        chance = self.measure.chance
        return "" if chance is None else f" Dashed: {chance:g}, chance."

    def merit(self, row: Row) -> float:
        """Return a row's score so that larger is better."""
        return float(self.measure.sign * row["score"])

    def text(self, value: float) -> str:
        """Return a score with its unit."""
        return digits(value) + (f" {self.unit}" if self.unit else "")

    def limits(self, rows: Sequence[Row]) -> tuple[float, float]:
        """Return the limits of an axis for the scores and intervals of some rows, and for chance.

        An interval of an error from two seeds can be many times as wide as all scores: the axis ends before.
        """
        ends = [row[end] for row in rows for end in ENDS if row[end] is not None]
        ends += [] if self.measure.chance is None else [self.measure.chance]
        low, high = min(ends), max(ends)
        if np.isinf(self.measure.scale.high):
            high = min(high, 2 * max(row["score"] for row in rows))
        margin = MARGIN * ((high - low) or abs(high) or 1.0)
        return low - margin, high + margin

    def mark_chance(self, ax: Axes, *, upright: bool = False) -> None:
        """Draw the line of chance, if the measure has one; ``upright``: scores are on the horizontal axis."""
        if self.measure.chance is not None:
            draw = ax.axvline if upright else ax.axhline
            draw(self.measure.chance, color=MUTED, linewidth=0.9, linestyle=DASHED, zorder=0)


def measure_of(rows: Iterable[Row]) -> Measure:
    """Return the measure that ranks the rows of one table; AUC if none of them is complete."""
    return MEASURES[next((str(row["metric"]) for row in rows if row["metric"] is not None), "auc")]


def interval(row: Row, between: str = " to ") -> str:
    """Return the interval of a row's score in parentheses, after a space; empty if there is none."""
    if row["ci_low"] is None:
        return ""
    low, high = digits(row["ci_low"]), digits(row["ci_high"])
    return f" ({low}{' to ' if low.startswith('-') else between}{high})"


def ends(row: Row, limits: tuple[float, float]) -> tuple[float, float]:
    """Return the ends of a row's interval within the limits of an axis; its score if there is none."""
    if row["ci_low"] is None:
        return row["score"], row["score"]
    low, high = np.clip([row["ci_low"], row["ci_high"]], *limits)
    return float(low), float(high)


def cut(rows: Iterable[Row], limits: tuple[float, float]) -> str:
    """Return a sentence, after a space, if an interval goes on beyond the axis; empty otherwise."""
    known = [row for row in rows if row["ci_low"] is not None]
    beyond = any(ends(row, limits) != (row["ci_low"], row["ci_high"]) for row in known)
    return " An interval that reaches the edge goes on beyond it." if beyond else ""

"""Scores against the fraction of labels, and against the fraction of positives among them."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from ssl3d.report.material import Drawing, Row, Run, Section, Subject, highest, plain_rows, shown_of, stem, subject_of
from ssl3d.report.panels import Area, Panels, marks
from ssl3d.report.score import Score, cut, ends
from ssl3d.report.style import plain

PERCENT = FuncFormatter(lambda value, _: f"{100 * value:g}%")
TITLES = {"labels": "Fewer labels", "positives": "Fewer positives"}
AXES = {"labels": "share of the training labels", "positives": "share of positives in the training labels"}
ABSENT = {
    "labels": "Encoders were evaluated with all labels only; `ssl3d bench --labels 0.1,0.5,1` draws this curve.",
    "positives": "The share of positives was not changed; `ssl3d bench --imbalance 0.5,0.2,0.05` draws this curve.",
}


def labels(run: Run) -> Section:
    """Draw scores against the fraction of the training labels."""
    return _section(run, "labels")


def imbalance(run: Run) -> Section:
    """Draw scores against the fraction of positives among the training labels."""
    return _section(run, "positives")


def _section(run: Run, condition: str) -> Section:
    section = Section(condition, TITLES[condition])
    found: dict[Subject, list[Row]] = {}
    for row in plain_rows(run.tables.curves):
        if row["condition"] == condition and row["score"] is not None:
            found.setdefault(subject_of(row), []).append(row)
    section.drawings.extend(_drawn(run, subject, rows, condition) for subject, rows in found.items())
    if not section.drawings:
        section.notes.append(ABSENT[condition])
    return section


def _drawn(run: Run, subject: Subject, rows: list[Row], condition: str) -> Drawing:
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))
    shares = sorted({row["share"] for row in rows})
    score = run.score_of(rows)
    every = [run.name_of_row(row) for row in sorted(rows, key=lambda row: (-row["share"], -score.merit(row)))]
    names = highest(every)
    rows = [row for row in rows if run.name_of_row(row) in names]
    limits = score.limits(rows)
    return Drawing(
        stem(condition, *subject),
        run.titled(subject),
        f"{score.title} on the same test cases, by the {AXES[condition]}: mean over draws and seeds, with 95% "
        "intervals over cases, draws and seeds together. Differences between curves were not tested, except with all "
        f"labels.{score.chance}{cut(rows, limits)}{shown_of(names, every)}",
        f"{score.title} of {', '.join(names)} by the {AXES[condition]}, from {shares[0]:g} to {shares[-1]:g}.",
        Panels(
            [partial(_panel, run=run, of=of, rows=rows, names=names, score=score) for of in protocols],
            2.8,
            columns=2,
            legend=marks(run.looks, names),
        ),
    )


def _panel(figure: Area, *, run: Run, of: str, rows: list[Row], names: list[str], score: Score) -> None:
    ax, limits = figure.subplots(), score.limits(rows)
    for index, name in enumerate(names):
        part = [row for row in rows if row["protocol"] == of and run.name_of_row(row) == name]
        _line(ax, run, name, part, limits, nudge=1 + 0.03 * (index - (len(names) - 1) / 2))
    _finish(ax, plain(of), sorted({row["share"] for row in rows}), AXES[rows[0]["condition"]])
    score.mark_chance(ax)
    ax.set_ylim(*limits)
    ax.set_ylabel(score.axis)


def _line(ax: Axes, run: Run, name: str, rows: list[Row], limits: tuple[float, float], *, nudge: float) -> None:
    """Draw one method's curve; ``nudge`` keeps intervals at the same fraction from overlapping."""
    if not rows:
        return
    rows = sorted(rows, key=lambda row: row["share"])
    look = run.looks[name]
    scores = [row["score"] for row in rows]
    low, high = zip(*(ends(row, limits) for row in rows), strict=True)
    ax.errorbar(
        [row["share"] * nudge for row in rows],
        scores,
        yerr=[np.subtract(scores, low), np.subtract(high, scores)],
        color=look.colour,
        marker=look.marker,
        linestyle=look.dashes,
        elinewidth=1,
    )


def _finish(ax: Axes, title: str, shares: list[float], what: str) -> None:
    ax.set_xscale("log")
    ax.minorticks_off()
    ax.set_xticks(shares)
    ax.xaxis.set_major_formatter(PERCENT)
    ax.set_title(title)
    ax.set_xlabel(what)

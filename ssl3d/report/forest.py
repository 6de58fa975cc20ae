"""Scores with their intervals: one panel per protocol, one line per method."""

from __future__ import annotations

from functools import partial

from matplotlib.axes import Axes

from ssl3d.report.material import Drawing, Row, Run, Section, Subject, highest, shown_of, stem, titled
from ssl3d.report.panels import Area, Panels, is_narrow
from ssl3d.report.score import Score, cut, ends, interval
from ssl3d.report.style import plain
from ssl3d.tables.formats.texts import digits

MOST = 30  # methods of a protocol
LINE = 0.38  # inches of a method


def forest(run: Run) -> Section:
    """Draw one forest plot for each data set, task and plane."""
    section = Section("forest", "Scores with intervals")
    for subject, rows in run.by_subject():
        scored = [row for row in rows if row["score"] is not None]
        if scored:
            section.drawings.append(_drawn(run, subject, scored))
        else:
            section.notes.append(f"{titled(*subject) or 'All'}: no row has a score, so there is nothing to draw.")
    return section


def _drawn(run: Run, subject: Subject, rows: list[Row]) -> Drawing:
    every = {
        protocol: [row for row in rows if row["protocol"] == protocol]
        for protocol in dict.fromkeys(row["protocol"] for row in rows)
    }
    shown = {protocol: of[:MOST] for protocol, of in every.items()}
    drawn = [row for of in shown.values() for row in of]
    score, longest = run.score_of(rows), max(map(len, shown.values()))
    limits, best = score.limits(drawn), max(rows, key=score.merit)
    names = [run.name_of_row(row) for row in max(every.values(), key=len)]
    labels = " Methods marked 'labels' saw labels while they were pretrained." if _any_labels(rows) else ""
    return Drawing(
        stem("forest", *subject),
        run.titled(subject),
        f"{score.title} ({score.measure.meaning}) on the test cases, with 95% intervals. Within a protocol, methods "
        f"that share a letter cannot be separated.{score.chance}{labels}{cut(drawn, limits)}"
        f"{shown_of(highest(names, MOST), names)}",
        f"Forest plot of {len(drawn)} scores; {score.best} is {score.text(best['score'])}, of "
        f"{run.name_of_row(best)} ({best['protocol']}).",
        Panels(
            [partial(_panel, run=run, rows=of, score=score, limits=limits) for of in shown.values()],
            0.95 + LINE * longest,
            columns=1,
        ),
    )


def _any_labels(rows: list[Row]) -> bool:
    return any(row["labels_used"] for row in rows)


def _panel(figure: Area, run: Run, rows: list[Row], score: Score, limits: tuple[float, float]) -> None:
    """Draw one protocol: names and numbers beside the lines, or above them where a panel is narrow."""
    ax = figure.subplots()
    ax.set_title(plain(rows[0]["protocol"]), weight="bold")
    narrow = is_narrow(figure)
    for y, row in enumerate(rows):
        _line(ax, y, row, run, limits)
        _words(ax, y, row, run, narrow=narrow)
    score.mark_chance(ax, upright=True)
    names = [] if narrow else [plain(run.name_of_row(row), 26) for row in rows]
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(rows) - 0.5, -0.7)
    ax.set_xlim(*limits)
    ax.set_xlabel(score.axis)
    ax.locator_params(axis="x", nbins=5 if narrow else 9)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _line(ax: Axes, y: float, row: Row, run: Run, limits: tuple[float, float]) -> None:
    look = run.looks[run.name_of_row(row)]
    if row["ci_low"] is not None:
        ax.plot(ends(row, limits), [y, y], color=look.colour, linewidth=2, solid_capstyle="butt")
    ax.plot([row["score"]], [y], marker=look.marker, color=look.colour, markersize=7)


def _words(ax: Axes, y: float, row: Row, run: Run, *, narrow: bool) -> None:
    numbers = digits(row["score"]) + interval(row)
    marks = f"{', labels' if row['labels_used'] else ''}{', collapsed' if row['collapsed'] else ''}"
    group = plain(row["group"] or "", 8)
    where = ax.get_yaxis_transform()
    if narrow:
        ax.text(0, y - 0.46, plain(run.name_of_row(row), 24), transform=where, va="center")
        ax.text(1, y - 0.46, f"{group}  {numbers}{marks}", transform=where, va="center", ha="right")
    else:
        ax.text(1.02, y, group, transform=where, va="center", weight="bold")
        ax.text(1.04 + 0.014 * len(group), y, f"{numbers}{marks}", transform=where, va="center")

"""Scores against cost."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from ssl3d.report.material import Drawing, Row, Run, Section, Subject, highest, shown_of, stem
from ssl3d.report.panels import Area, Mark, Panels, marks
from ssl3d.report.score import Score, cut, ends
from ssl3d.report.style import plain
from ssl3d.report.tables.cells import scaled

UNTRAINED = "not trained"  # the exactness of an encoder that was not pretrained here
CAPTION = (
    "Mean over seeds, with 95% intervals. Lines across: encoders that were not pretrained in this run, whose cost is "
    "none or not known. The cost of choosing learning rates, where they were chosen, is in the table and not in here."
)
PRICES = {"pretrain_seconds": "pretraining, seconds", "flops": "pretraining, floating-point operations"}


def price(run: Run) -> Section:
    """Draw scores against time and operations, for each data set, task, plane and protocol."""
    section = Section("price", "Score against price")
    for subject, protocol, rows in run.by_table():
        members = [row for row in rows if row["score"] is not None]
        known = [column for column in PRICES if any(row[column] for row in members)]
        if known:
            section.drawings.append(_drawn(run, subject, protocol, members, known))
    if not section.drawings:
        section.notes.append("No result has both a score and the cost of its pretraining.")
    return section


def _drawn(run: Run, subject: Subject, protocol: str, rows: list[Row], prices: list[str]) -> Drawing:
    every = [run.name_of_row(row) for row in rows]
    names = highest(every)
    rows = [row for row in rows if run.name_of_row(row) in names]
    score = run.score_of(rows)
    limits = score.limits(rows)
    return Drawing(
        stem("price", *subject, protocol),
        run.titled(subject, protocol),
        " ".join([CAPTION + score.chance + cut(rows, limits), *_left_out(run, rows, prices)]) + shown_of(names, every),
        f"{score.title} against price of {len(rows)} methods under {protocol}.",
        Panels(
            [partial(_panel, run=run, rows=rows, column=column, score=score) for column in prices],
            2.9,
            columns=2,
            legend=_legend(run, [row for row in rows if _free(row) or any(row[column] for column in prices)]),
        ),
    )


def _legend(run: Run, rows: list[Row]) -> dict[str, Mark]:
    """Return a marker for each method with a cost, and a line for each without."""
    found = marks(run.looks, [run.name_of_row(row) for row in rows])
    for row in rows:
        found[plain(run.name_of_row(row))]["marker" if _free(row) else "linestyle"] = "none"
    return found


def _left_out(run: Run, rows: list[Row], prices: list[str]) -> Iterator[str]:
    """Yield one sentence for each panel that leaves out a method with unknown cost."""
    for column in prices:
        names = [plain(run.name_of_row(row)) for row in rows if row[column] is None and not _free(row)]
        if names:
            yield f"Not known, and left out ({PRICES[column]}): {', '.join(names)}."


def _free(row: Row) -> bool:
    """Return whether a row's encoder was not pretrained here, so that it cost nothing."""
    return bool(row["exactness"] == UNTRAINED)


def _panel(figure: Area, run: Run, rows: list[Row], column: str, score: Score) -> None:
    ax, limits = figure.subplots(), score.limits(rows)
    for row in rows:
        if row[column] is None and not _free(row):
            continue  # the caption names it
        name = run.name_of_row(row)
        look = run.looks[name]
        if _free(row):
            ax.axhline(row["score"], color=look.colour, linewidth=1.2, linestyle=look.dashes)
            continue
        low, high = ends(row, limits)
        ax.errorbar(
            [row[column]],
            [row["score"]],
            yerr=[[row["score"] - low], [high - row["score"]]],
            fmt=look.marker,
            color=look.colour,
            elinewidth=1,
            markersize=7,
        )
    score.mark_chance(ax)
    ax.set_ylim(*limits)
    ax.set_ylabel(score.axis)
    _price_axis(ax, [row[column] for row in rows if row[column]], PRICES[column])


def _price_axis(ax: Axes, paid: list[float], title: str) -> None:
    if not paid:  # by the methods shown
        ax.set_xticks([])
    elif max(paid) > 5 * min(paid):
        ax.set_xscale("log")
        ax.margins(x=0.15)
    else:
        ax.set_xlim(0, 1.15 * max(paid))
        ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: scaled(value, "").strip() or "0"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(title)

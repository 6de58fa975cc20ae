"""Scores against cost."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from ssl3d.report.material import Drawing, Row, Run, Section, Subject, stem
from ssl3d.report.style import MUTED, drawing, grid, plain, share_legend
from ssl3d.report.table import scaled

UNTRAINED = "not trained"  # the exactness of an encoder that was not pretrained here
CAPTION = (
    "Mean over seeds, with 95% intervals. Lines across: encoders not pretrained here, which cost nothing; grey: chance."
)
PRICES = {"pretrain_seconds": "pretraining, seconds", "flops": "pretraining, floating-point operations"}


def price(run: Run) -> Section:
    """Draw AUC against time and operations, for each data set, task, plane and protocol."""
    section = Section("price", "Score against price")
    for subject, protocol, rows in run.by_table():
        members = [row for row in rows if row["auc"] is not None]
        known = [column for column in PRICES if any(row[column] for row in members)]
        if known:
            section.drawings.append(_drawn(run, subject, protocol, members, known))
    if not section.drawings:
        section.notes.append("No result has both an AUC and the cost of its pretraining.")
    return section


def _drawn(run: Run, subject: Subject, protocol: str, rows: list[Row], prices: list[str]) -> Drawing:
    with drawing():
        figure, axes = grid(len(prices), 2, (3.8, 2.9), sharey=True)
        for ax, column in zip(axes, prices, strict=True):
            _panel(ax, run, rows, column)
        axes[0].set_ylabel("AUC")
        share_legend(figure, axes)
    return Drawing(
        stem("price", *subject, protocol),
        run.titled(subject, protocol),
        " ".join([CAPTION, *_left_out(run, rows, prices)]),
        f"AUC against price of {len(rows)} methods under {protocol}.",
        figure,
    )


def _left_out(run: Run, rows: list[Row], prices: list[str]) -> Iterator[str]:
    """Yield one sentence for each panel that leaves out a method with unknown cost."""
    for column in prices:
        names = [plain(run.name_of_row(row)) for row in rows if row[column] is None and not _free(row)]
        if names:
            yield f"Not known, and left out ({PRICES[column]}): {', '.join(names)}."


def _free(row: Row) -> bool:
    """Return whether a row's encoder was not pretrained here, so that it cost nothing."""
    return bool(row["exactness"] == UNTRAINED)


def _panel(ax: Axes, run: Run, rows: list[Row], column: str) -> None:
    for row in rows:
        if row[column] is None and not _free(row):
            continue  # the caption names it
        name = run.name_of_row(row)
        look = run.looks[name]
        if _free(row):
            ax.axhline(row["auc"], color=look.colour, linewidth=1.2, linestyle=look.dashes, label=plain(name))
            continue
        around = None if row["ci_low"] is None else [[row["auc"] - row["ci_low"]], [row["ci_high"] - row["auc"]]]
        ax.errorbar(
            [row[column]],
            [row["auc"]],
            yerr=around,
            fmt=look.marker,
            color=look.colour,
            elinewidth=1,
            markersize=7,
            label=plain(name),
        )
    ax.axhline(0.5, color=MUTED, linewidth=0.7)
    paid = [row[column] for row in rows if row[column]]
    if max(paid) > 5 * min(paid):
        ax.set_xscale("log")
        ax.margins(x=0.15)
    else:
        ax.set_xlim(0, 1.15 * max(paid))
        ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: scaled(value, "").strip() or "0"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(PRICES[column])

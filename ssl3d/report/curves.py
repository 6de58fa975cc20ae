"""AUC against the fraction of labels, and against the fraction of positives among them."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from ssl3d.report.material import Drawing, Row, Run, Section, Subject, plain_rows, stem, subject_of
from ssl3d.report.style import MUTED, drawing, grid, plain, share_legend

PERCENT = FuncFormatter(lambda value, _: f"{100 * value:g}%")
TITLES = {"labels": "Fewer labels", "positives": "Fewer positives"}
AXES = {"labels": "share of the training labels", "positives": "share of positives in the training labels"}
ABSENT = {
    "labels": "Encoders were evaluated with all labels only; `ssl3d bench --labels 0.1,0.5,1` draws this curve.",
    "positives": "The share of positives was not changed; `ssl3d bench --imbalance 0.5,0.2,0.05` draws this curve.",
}


def labels(run: Run) -> Section:
    """Draw AUC against the fraction of the training labels."""
    return _section(run, "labels")


def imbalance(run: Run) -> Section:
    """Draw AUC against the fraction of positives among the training labels."""
    return _section(run, "positives")


def _section(run: Run, condition: str) -> Section:
    section = Section(condition, TITLES[condition])
    found: dict[Subject, list[Row]] = {}
    for row in plain_rows(run.tables.curves):
        if row["condition"] == condition and row["auc"] is not None:
            found.setdefault(subject_of(row), []).append(row)
    section.drawings.extend(_drawn(run, subject, rows, condition) for subject, rows in found.items())
    if not section.drawings:
        section.notes.append(ABSENT[condition])
    return section


def _drawn(run: Run, subject: Subject, rows: list[Row], condition: str) -> Drawing:
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))
    shares = sorted({row["share"] for row in rows})
    names = [name for name in run.looks if name in {run.name_of_row(row) for row in rows}]
    with drawing():
        figure, axes = grid(len(protocols), 2, (3.8, 2.8), sharey=True)
        for ax, protocol in zip(axes, protocols, strict=True):
            for index, name in enumerate(names):
                part = [row for row in rows if row["protocol"] == protocol and run.name_of_row(row) == name]
                _line(ax, run, name, part, nudge=1 + 0.03 * (index - (len(names) - 1) / 2))
            _finish(ax, plain(protocol), shares, AXES[condition])
        axes[0].set_ylabel("AUC")
        share_legend(figure, axes)
    return Drawing(
        stem(condition, *subject),
        run.titled(subject),
        f"AUC on the same test cases, by the {AXES[condition]}: mean over draws and seeds, with 95% intervals "
        "over cases, draws and seeds together. Dashed: 0.5, no better than chance.",
        f"AUC of {', '.join(names)} by the {AXES[condition]}, from {shares[0]:g} to {shares[-1]:g}.",
        figure,
    )


def _line(ax: Axes, run: Run, name: str, rows: list[Row], *, nudge: float) -> None:
    """Draw one method's curve; ``nudge`` keeps intervals at the same fraction from overlapping."""
    if not rows:
        return
    rows = sorted(rows, key=lambda row: row["share"])
    look = run.looks[name]
    ends = [(row["auc"], row["auc"]) if row["ci_low"] is None else (row["ci_low"], row["ci_high"]) for row in rows]
    aucs = [row["auc"] for row in rows]
    around = [[auc - low for auc, (low, _) in zip(aucs, ends, strict=True)]]
    around += [[high - auc for auc, (_, high) in zip(aucs, ends, strict=True)]]
    ax.errorbar(
        [row["share"] * nudge for row in rows],
        aucs,
        yerr=around,
        color=look.colour,
        marker=look.marker,
        linestyle=look.dashes,
        elinewidth=1,
        label=plain(name),
    )


def _finish(ax: Axes, title: str, shares: list[float], what: str) -> None:
    ax.axhline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.set_xscale("log")
    ax.minorticks_off()
    ax.set_xticks(shares)
    ax.xaxis.set_major_formatter(PERCENT)
    ax.set_title(title)
    ax.set_xlabel(what)

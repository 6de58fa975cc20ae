"""AUC against the fraction of labels, and against the fraction of positives among them."""

from __future__ import annotations

from functools import partial

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from ssl3d.report.material import Drawing, Row, Run, Section, Subject, highest, plain_rows, shown_of, stem, subject_of
from ssl3d.report.panels import Area, Panels, marks
from ssl3d.report.style import MUTED, plain

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
    every = [run.name_of_row(row) for row in sorted(rows, key=lambda row: (-row["share"], -row["auc"]))]
    names = highest(every)
    rows = [row for row in rows if run.name_of_row(row) in names]
    ends = [end for row in rows for end in (row["auc"], row["ci_low"], row["ci_high"]) if end is not None]
    limits = min(0.5, *ends) - 0.02, max(ends) + 0.02
    return Drawing(
        stem(condition, *subject),
        run.titled(subject),
        f"AUC on the same test cases, by the {AXES[condition]}: mean over draws and seeds, with 95% intervals over "
        "cases, draws and seeds together. Differences between curves were not tested, except with all labels. Dashed: "
        f"0.5, chance.{shown_of(names, every)}",
        f"AUC of {', '.join(names)} by the {AXES[condition]}, from {shares[0]:g} to {shares[-1]:g}.",
        Panels(
            [partial(_panel, run=run, of=protocol, rows=rows, names=names, limits=limits) for protocol in protocols],
            2.8,
            columns=2,
            legend=marks(run.looks, names),
        ),
    )


def _panel(figure: Area, *, run: Run, of: str, rows: list[Row], names: list[str], limits: tuple[float, float]) -> None:
    ax = figure.subplots()
    for index, name in enumerate(names):
        part = [row for row in rows if row["protocol"] == of and run.name_of_row(row) == name]
        _line(ax, run, name, part, nudge=1 + 0.03 * (index - (len(names) - 1) / 2))
    _finish(ax, plain(of), sorted({row["share"] for row in rows}), AXES[rows[0]["condition"]])
    ax.set_ylim(*limits)
    ax.set_ylabel("AUC")


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
    )


def _finish(ax: Axes, title: str, shares: list[float], what: str) -> None:
    ax.axhline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.set_xscale("log")
    ax.minorticks_off()
    ax.set_xticks(shares)
    ax.xaxis.set_major_formatter(PERCENT)
    ax.set_title(title)
    ax.set_xlabel(what)

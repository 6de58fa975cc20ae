"""AUCs with their intervals: one panel per protocol, one line per method."""

from __future__ import annotations

from functools import partial

from matplotlib.axes import Axes

from ssl3d.report.material import Drawing, Row, Run, Section, Subject, highest, shown_of, stem, titled
from ssl3d.report.panels import Area, Panels, is_narrow
from ssl3d.report.style import MUTED, plain

MOST = 30  # methods of a protocol
LINE = 0.38  # inches of a method


def forest(run: Run) -> Section:
    """Draw one forest plot for each data set, task and plane."""
    section = Section("forest", "Scores with intervals")
    for subject, rows in run.by_subject():
        scored = [row for row in rows if row["auc"] is not None]
        if scored:
            section.drawings.append(_drawn(run, subject, scored))
        else:
            section.notes.append(f"{titled(*subject) or 'All'}: no row has an AUC, so there is nothing to draw.")
    return section


def _drawn(run: Run, subject: Subject, rows: list[Row]) -> Drawing:
    every = {
        protocol: [row for row in rows if row["protocol"] == protocol]
        for protocol in dict.fromkeys(row["protocol"] for row in rows)
    }
    shown = {protocol: of[:MOST] for protocol, of in every.items()}
    ends = [row[end] for of in shown.values() for row in of for end in ("auc", "ci_low", "ci_high")]
    limits = min(0.5, *(end for end in ends if end is not None)), max(end for end in ends if end is not None)
    longest = max(map(len, shown.values()))
    best = max(rows, key=lambda row: row["auc"])
    names = [run.name_of_row(row) for row in max(every.values(), key=len)]
    labels = " Methods marked 'labels' saw labels while they were pretrained." if _any_labels(rows) else ""
    return Drawing(
        stem("forest", *subject),
        run.titled(subject),
        "Area under the ROC curve on the test cases, with 95% intervals. Within a protocol, methods that share a "
        f"letter cannot be separated. Dashed: 0.5, chance.{labels}{shown_of(highest(names, MOST), names)}",
        f"Forest plot of {sum(map(len, shown.values()))} AUCs; the highest is {best['auc']:.3f}, of "
        f"{run.name_of_row(best)} ({best['protocol']}).",
        Panels(
            [partial(_panel, run=run, protocol=name, rows=of, limits=limits) for name, of in shown.items()],
            0.75 + LINE * longest,
            columns=1,
        ),
    )


def _any_labels(rows: list[Row]) -> bool:
    return any(row["labels_used"] for row in rows)


def _panel(figure: Area, run: Run, protocol: str, rows: list[Row], limits: tuple[float, float]) -> None:
    """Draw one protocol: names and numbers beside the lines, or above them where a panel is narrow."""
    ax = figure.subplots()
    ax.set_title(plain(protocol), weight="bold")
    narrow = is_narrow(figure)
    for y, row in enumerate(rows):
        _line(ax, y, row, run)
        _words(ax, y, row, run, narrow=narrow)
    ax.axvline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    names = [] if narrow else [plain(run.name_of_row(row), 26) for row in rows]
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(rows) - 0.5, -0.7)
    margin = 0.04 * (limits[1] - limits[0])
    ax.set_xlim(limits[0] - margin, limits[1] + margin)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _line(ax: Axes, y: float, row: Row, run: Run) -> None:
    look = run.looks[run.name_of_row(row)]
    if row["ci_low"] is not None:
        ax.plot([row["ci_low"], row["ci_high"]], [y, y], color=look.colour, linewidth=2, solid_capstyle="butt")
    ax.plot([row["auc"]], [y], marker=look.marker, color=look.colour, markersize=7)


def _words(ax: Axes, y: float, row: Row, run: Run, *, narrow: bool) -> None:
    interval = "" if row["ci_low"] is None else f" ({row['ci_low']:.3f} to {row['ci_high']:.3f})"
    marks = f"{', labels' if row['labels_used'] else ''}{', collapsed' if row['collapsed'] else ''}"
    group = plain(row["group"] or "", 8)
    where = ax.get_yaxis_transform()
    if narrow:
        ax.text(0, y - 0.46, plain(run.name_of_row(row), 24), transform=where, va="center")
        ax.text(1, y - 0.46, f"{group}  {row['auc']:.3f}{interval}{marks}", transform=where, va="center", ha="right")
    else:
        ax.text(1.02, y, group, transform=where, va="center", weight="bold")
        ax.text(1.04 + 0.014 * len(group), y, f"{row['auc']:.3f}{interval}{marks}", transform=where, va="center")

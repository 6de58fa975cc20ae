"""AUCs with their intervals: one line per method."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssl3d.report.material import Drawing, Row, Run, Section, Subject, stem, titled
from ssl3d.report.style import MUTED, drawing, plain


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
    width = 1 + max(len(row["group"] or "") for row in rows)
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))
    with drawing():
        figure = Figure(figsize=(7.6, 0.7 + 0.27 * len(rows) + 0.38 * len(protocols)), layout="constrained")
        ax = figure.subplots()
        y, ticks = 0.0, []
        for protocol in protocols:
            ax.text(
                -0.01, y, plain(protocol), transform=ax.get_yaxis_transform(), weight="bold", va="center", ha="right"
            )
            for row in (row for row in rows if row["protocol"] == protocol):
                y += 1
                ticks.append((y, run.name_of_row(row)))
                _line(ax, y, row, run, width)
            y += 1.5
        _finish(ax, y, ticks)
    best = max(rows, key=lambda row: row["auc"])
    labels = " Methods marked 'labels' saw labels while they were pretrained." if _any_labels(rows) else ""
    return Drawing(
        stem("forest", *subject),
        run.titled(subject),
        "Area under the ROC curve on the test cases, with 95% intervals. Within a protocol, methods that share a "
        f"letter cannot be separated. Dashed: 0.5, no better than chance.{labels}",
        f"Forest plot of {len(rows)} AUCs; the highest is {best['auc']:.3f}, of {run.name_of_row(best)} "
        f"({best['protocol']}).",
        figure,
    )


def _any_labels(rows: list[Row]) -> bool:
    return any(row["labels_used"] for row in rows)


def _line(ax: Axes, y: float, row: Row, run: Run, width: int) -> None:
    look = run.looks[run.name_of_row(row)]
    if row["ci_low"] is not None:
        ax.plot([row["ci_low"], row["ci_high"]], [y, y], color=look.colour, linewidth=2, solid_capstyle="butt")
    ax.plot([row["auc"]], [y], marker=look.marker, color=look.colour, markersize=7)
    interval = "" if row["ci_low"] is None else f" ({row['ci_low']:.3f} to {row['ci_high']:.3f})"
    marks = f"{', labels' if row['labels_used'] else ''}{', collapsed' if row['collapsed'] else ''}"
    text = f"{row['auc']:.3f}{interval}{marks}"
    ax.text(1.02, y, row["group"] or "", transform=ax.get_yaxis_transform(), va="center", weight="bold")
    ax.text(1.02 + 0.03 * width, y, text, transform=ax.get_yaxis_transform(), va="center")


def _finish(ax: Axes, last: float, ticks: list[tuple[float, str]]) -> None:
    ax.axvline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    ax.set_yticks([y for y, _ in ticks], [plain(name) for _, name in ticks])
    ax.set_ylim(last - 0.9, -0.7)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)

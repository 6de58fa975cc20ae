"""Training curves with the measures of collapse, from the logs of the cells."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ssl3d.errors import RunError
from ssl3d.report.material import Drawing, Run, Section
from ssl3d.report.style import MUTED, drawing, grid, plain, share_legend
from ssl3d.results.folder import cells_folder
from ssl3d.results.records import CellResult

PANELS = {
    "loss": "loss (each method's own)",
    "feature_std": "feature deviation (0: collapsed)",
    "effective_rank": "effective rank (1: collapsed)",
    "alignment": "alignment of two views",
    "uniformity": "uniformity",
    "lr": "learning rate",
}


def training(run: Run) -> Section:
    """Draw what was logged each epoch, one figure for each plane that encoders were pretrained on."""
    section = Section("training", "Training curves")
    planes: dict[str, list[tuple[CellResult, pd.DataFrame]]] = {}
    for cell in run.done:
        try:
            log = _log(run, cell)
        except RunError as error:  # of one cell: the others are drawn
            section.notes.append(str(error))
            continue
        if log is not None and not log.empty:
            planes.setdefault(cell.recipe.data.plane or "", []).append((cell, log))
    section.drawings.extend(_drawn(run, plane, logs) for plane, logs in planes.items())
    if not section.drawings and not section.notes:
        section.notes.append("No cell has left a log of its pretraining (log.csv), so there is no curve to draw.")
    return section


def _log(run: Run, cell: CellResult) -> pd.DataFrame | None:
    path = cells_folder(run.folder) / cell.cell / "log.csv"
    if not path.is_file():
        return None
    try:
        return pd.read_csv(path, dtype="float64")
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}); delete it, the figures do without") from None


def _drawn(run: Run, plane: str, logs: list[tuple[CellResult, pd.DataFrame]]) -> Drawing:
    shown = [name for name in PANELS if any(name in log and log[name].notna().any() for _, log in logs)]
    with drawing():
        figure, axes = grid(len(shown), 3, (2.6, 2.05))
        for ax, column in zip(axes, shown, strict=True):
            for cell, log in logs:
                if column in log:
                    _line(ax, run, cell, log, column)
            _finish(ax, column)
        share_legend(figure, axes)
    return Drawing(
        f"training-{plane}",
        plain(plane),
        "One line a cell; seeds of a method look alike. Losses of different methods are not comparable. Dotted: below "
        "it a run counts as collapsed.",
        f"Training curves of {len(logs)} pretraining runs: {', '.join(shown)} by epoch.",
        figure,
    )


def _line(ax: Axes, run: Run, cell: CellResult, log: pd.DataFrame, column: str) -> None:
    name = run.name_of_cell(cell)
    look = run.looks.get(name)
    marks: dict[str, Any] = {"color": look.colour, "linestyle": look.dashes, "marker": look.marker} if look else {}
    epochs = log["epoch"] if "epoch" in log else pd.Series(range(1, len(log) + 1))
    ax.plot(epochs, log[column], label=plain(name), markersize=4, markevery=max(1, len(log) // 6), **marks)


def _finish(ax: Axes, column: str) -> None:
    from ssl3d.train.collapse import COLLAPSED_RANK, COLLAPSED_STD  # noqa: PLC0415  # loads torch

    limit = {"feature_std": COLLAPSED_STD, "effective_rank": COLLAPSED_RANK}.get(column)
    if limit is not None:
        ax.set_ylim(0, 1.08 * ax.dataLim.ymax)
        ax.axhline(limit, color=MUTED, linewidth=1, linestyle=(0, (1, 1.5)))
    ax.set_title(PANELS[column])
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))

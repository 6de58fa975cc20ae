"""Training curves with the measures of collapse, from the logs of the encoders."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ssl3d.errors import RunError
from ssl3d.files import LOG
from ssl3d.report.material import Drawing, Run, Section, highest, shown_of, stem
from ssl3d.report.panels import Area, Panels, marks
from ssl3d.report.style import MUTED, plain
from ssl3d.results.folder import RunFolder
from ssl3d.results.model import EncoderRecord
from ssl3d.results.records import read_file
from ssl3d.train.collapse import COLLAPSED_RANK, COLLAPSED_STD

PANELS = {
    "loss": "loss (each method's own)",
    "feature_std": "feature deviation (0: collapsed)",
    "effective_rank": "effective rank (1: collapsed)",
    "alignment": "alignment of two views",
    "uniformity": "uniformity",
    "lr": "learning rate",
}
POINTS = 60  # of a line
Logged = tuple[EncoderRecord, pd.DataFrame]


def training(run: Run) -> Section:
    """Draw the logged values of each epoch, one figure per pretraining corpus."""
    section = Section("training", "Training curves")
    folder = RunFolder(run.folder, Path(run.plan.cache) if run.plan.cache else None)
    corpora: dict[str, list[Logged]] = {}
    for encoder in run.trained():
        try:
            log = _log(folder.folder_of(EncoderRecord, encoder.name), encoder)
        except RunError as error:  # in one encoder: the others are drawn
            section.notes.append(str(error))
            continue
        if log is not None and not log.empty:
            corpora.setdefault(encoder.corpus.name if encoder.corpus else "", []).append((encoder, log))
    for name, logs in corpora.items():
        section.drawings.append(_drawn(run, name, plain(name) if len(corpora) > 1 else "", logs))
    if not section.drawings and not section.notes:
        section.notes.append("No encoder has a log of its pretraining (log.csv), so there is no curve to draw.")
    return section


def _log(folder: Path, encoder: EncoderRecord) -> pd.DataFrame | None:
    if LOG not in encoder.files:
        return None
    try:
        return pd.read_csv(io.BytesIO(read_file(folder, encoder, LOG)), dtype="float64")
    except ValueError as error:
        raise RunError(f"{folder / LOG} cannot be read ({error}); the figures leave it out") from None


def _drawn(run: Run, corpus: str, title: str, logs: list[Logged]) -> Drawing:
    columns = [name for name in PANELS if any(name in log and log[name].notna().any() for _, log in logs)]
    trained = [run.name_of_encoder(encoder) for encoder, _ in logs]
    ranked = [name for name in map(run.name_of_row, run.rows) if name in trained]
    names = highest([*ranked, *trained])
    logs = [(encoder, log) for encoder, log in logs if run.name_of_encoder(encoder) in names]
    return Drawing(
        stem("training", corpus),
        title,
        "One line per encoder; seeds of a method look alike. Losses of different methods are not comparable. Dotted: "
        f"an encoder below this line counts as collapsed.{shown_of(names, trained, 'that come first in the ranking')}",
        f"Training curves of {len(logs)} encoders: {', '.join(columns)} by epoch.",
        Panels(
            [partial(_panel, run=run, logs=logs, column=column) for column in columns],
            2.6,
            legend=marks(run.looks, names),
        ),
    )


def _panel(figure: Area, run: Run, logs: list[Logged], column: str) -> None:
    ax = figure.subplots()
    for encoder, log in logs:
        if column in log:
            _line(ax, run, encoder, log, column)
    _finish(ax, column)


def _line(ax: Axes, run: Run, encoder: EncoderRecord, log: pd.DataFrame, column: str) -> None:
    look = run.looks[run.name_of_encoder(encoder)]
    style: dict[str, Any] = {"color": look.colour, "linestyle": look.dashes, "marker": look.marker}
    epochs = log["epoch"] if "epoch" in log else pd.Series(range(1, len(log) + 1))
    kept = slice(None, None, -(-len(log) // POINTS))
    x, y = epochs[kept], log[column][kept]
    ax.plot(x, y, markersize=4, markevery=max(1, len(x) // 6), **style)


def _finish(ax: Axes, column: str) -> None:
    limit = {"feature_std": COLLAPSED_STD, "effective_rank": COLLAPSED_RANK}.get(column)
    if limit is not None:
        ax.set_ylim(0, 1.08 * ax.dataLim.ymax)
        ax.axhline(limit, color=MUTED, linewidth=1, linestyle=(0, (1, 1.5)))
    ax.set_title(PANELS[column])
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))

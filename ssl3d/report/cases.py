"""The test cases that methods disagree on most, with their slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssl3d.report.material import Drawing, Place, Run, Section, titled
from ssl3d.report.style import MUTED, drawing, plain, share_legend
from ssl3d.report.volumes import Pictures, show, slices, window
from ssl3d.results.records import CellResult
from ssl3d.tables.comparable import place

MOST = 5  # cases of one task, plane and protocol


def cases(run: Run, pictures: Pictures | None) -> Section:
    """Draw the cases with the largest spread of predicted probability; without slices where ``pictures`` is None."""
    section = Section("cases", "Cases that methods disagree on most")
    missing = False
    for key, (cell, table) in _tables(run).items():
        if len(table.columns) < 2:
            continue
        volumes = pictures.by_id(cell) if pictures else {}
        missing |= pictures is not None and not volumes
        section.drawings.append(_drawn(run, key, cell, disagreements(table), volumes))
    if not section.drawings:
        section.notes.append("It takes two methods on the same cases to disagree.")
    if missing:
        section.notes.append("The packed volumes are not in the run's folder, so the slices cannot be shown.")
    return section


def disagreements(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table of probabilities, one column a method, with the largest spread, largest first."""
    spread = (table.max(axis=1) - table.min(axis=1)).to_numpy()
    return table.iloc[np.argsort(-spread, kind="stable")[:MOST]]


def _tables(run: Run) -> dict[tuple[Place, str], tuple[CellResult, pd.DataFrame]]:
    """For each task and plane, under its first protocol: probabilities by case and method, mean over seeds."""
    found: dict[tuple[Place, str], list[pd.DataFrame]] = {}
    cells: dict[tuple[Place, str], CellResult] = {}
    for cell, predictions in run.results:
        if cell.status != "done" or predictions is None:
            continue
        key = (place(cell), next(iter(cell.scores)))
        cells.setdefault(key, cell)
        rows = predictions[(predictions["protocol"] == key[1]) & (predictions["condition"] == "")]
        p = rows.filter(regex=r"^p_\d+$").to_numpy(np.float64)
        shown = p[:, 1] if p.shape[1] == 2 else p[np.arange(len(p)), rows["label"]]
        found.setdefault(key, []).append(rows[["case", "label"]].assign(name=run.name_of_cell(cell), p=shown))
    return {key: (cells[key], _wide(pd.concat(parts))) for key, parts in found.items()}


def _wide(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a case and label, one column a method; those that lack a case are left out."""
    p = rows.pivot_table(index=["case", "label"], columns="name", values="p", aggfunc="mean", sort=False)
    return p.dropna(axis=1)


def _drawn(
    run: Run, key: tuple[Place, str], cell: CellResult, table: pd.DataFrame, volumes: Mapping[str, np.ndarray]
) -> Drawing:
    binary = cell.data is None or cell.data.classes == 2
    with drawing():
        figure = Figure(figsize=(7.6, 1.2 * len(table) + 0.7), layout="constrained")
        axes = figure.subplots(len(table), 4, squeeze=False, width_ratios=[1, 1, 1, 3.6])
        for line, (id, label), p in zip(axes, table.index, table.to_numpy(), strict=True):
            _pictures(line[:3], volumes.get(id))
            _dots(line[3], run, dict(zip(table.columns, p, strict=True)))
            line[3].set_title(f"case {plain(id, 40)}, label {label}")
        for ax in axes[:-1, 3]:
            ax.tick_params(axis="x", labelbottom=False, length=0)
        axes[-1, 3].set_xlabel(f"predicted probability of {'label 1' if binary else 'the true label'}")
        share_legend(figure, list(axes[:, 3]))
    return Drawing(
        f"cases-{titled(*key)}",
        run.titled(*key),
        "The largest spread of the predicted probability among methods (mean over seeds), with slices at a quarter, a "
        "half and three quarters of the volume.",
        f"{len(table)} test cases with each method's predicted probability: {', '.join(id for id, _ in table.index)}.",
        figure,
    )


def _pictures(axes: Sequence[Axes], volume: np.ndarray | None) -> None:
    for ax in axes:
        ax.set_axis_off()
    if volume is not None:
        limits = window(volume)
        for ax, picture in zip(axes, slices(volume), strict=False):
            show(ax, picture, limits)


def _dots(ax: Axes, run: Run, p: Mapping[str, float]) -> None:
    for height, (name, value) in enumerate(p.items()):
        look = run.looks[name]
        ax.plot([value], [height], look.marker, color=look.colour, markersize=7, label=plain(name))
    ax.axvline(0.5, color=MUTED, linewidth=0.7)
    ax.set_xlim(-0.03, 1.03)
    ax.set_ylim(len(p) - 0.5, -0.5)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)

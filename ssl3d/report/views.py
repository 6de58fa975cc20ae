"""What the networks saw: views of training volumes, made by each method itself from the cell's recipe."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ssl3d.data.rng import Rng
from ssl3d.data.store import Store
from ssl3d.report.material import Drawing, Run, Section
from ssl3d.report.style import drawing, plain
from ssl3d.report.volumes import Pictures, show, slices, window
from ssl3d.results.records import CellResult
from ssl3d.results.sources import check_sources
from ssl3d.train.build import build_method

ROWS = 3  # training volumes
MOST = 4  # views of one volume


def views(run: Run, pictures: Pictures) -> Section:
    """Draw views of a few training volumes, one figure a method and plane."""
    section = Section("views", "What the networks saw", notes=list(pictures.notes))
    seen: set[tuple[str, str]] = set()
    for cell in run.done:
        key = (run.name_of_cell(cell), cell.recipe.data.plane or "")
        if key in seen or cell.exactness == "not trained":
            continue
        seen.add(key)
        store = pictures.of(cell)
        if store is None:
            section.notes.append(f"{' '.join(key).strip()}: its packed volumes are not in the run's folder.")
            continue
        try:
            section.drawings.append(_drawn(cell, store, *key))
        except Exception as error:  # a plugin that is gone, was edited, or fails must not take the report with it
            reason = " ".join(str(error).split()) or type(error).__name__
            section.notes.append(f"{' '.join(key).strip()}: its views cannot be made ({reason}).")
    if not seen:
        section.notes.append("Nothing was pretrained in this run, so no network saw any view.")
    return section


def _drawn(cell: CellResult, store: Store, name: str, plane: str) -> Drawing:
    check_sources(cell.recipe)
    method = build_method(cell.recipe, initialise=False)
    chosen = store.indices("train")[:ROWS]
    volumes = store.volumes(chosen)
    made = method.views(volumes, Rng(cell.recipe.seed, 0, range(len(chosen))))[:MOST]
    rows = []
    for row, voxels in enumerate(volumes.voxels):
        own = (voxels[0].float().numpy() - float(volumes.mean[row])) / float(volumes.std[row])
        rows.append([own, *(view[row, 0].detach().float().numpy() for view in made)])
    with drawing():
        figure = _grid(rows, store.ids(chosen))
    return Drawing(
        f"views-{name}-{plane}",
        f"{plain(name)}{', ' if plane else ''}{plain(plane)}",
        f"A row a training volume: the volume, then {len(made)} views of it as {plain(name)} makes them, each as "
        "slices at a quarter, a half and three quarters of its depth. Drawn anew with the run's settings; greys are "
        "those of the volume, so changes of intensity show.",
        f"{len(rows)} training volumes and {len(made)} views of each, made by {name}.",
        figure,
    )


def _grid(rows: list[list[np.ndarray]], ids: list[str]) -> Figure:
    blocks = [len(slices(volume)) for volume in rows[0]]
    gap = 0.25  # of a picture, between the blocks
    widths = [width for block in blocks for width in [*[1.0] * block, gap]][:-1]
    figure = Figure(figsize=(0.86 * sum(widths) + 0.3, 0.9 * len(rows) + 0.35))
    axes = figure.subplots(len(rows), len(widths), squeeze=False, width_ratios=widths)
    figure.subplots_adjust(left=0.035, right=0.995, bottom=0.01, top=1 - 0.3 / figure.get_figheight(), hspace=0.05)
    figure.subplots_adjust(wspace=0.04)
    for number, (line, volumes, id) in enumerate(zip(axes, rows, ids, strict=True)):
        column = 0
        limits = window(volumes[0])
        for block, volume in enumerate(volumes):
            for place, picture in enumerate(slices(volume)):
                show(line[column], picture, limits)
                if number == place == 0:
                    line[column].set_title("volume" if block == 0 else f"view {block}", fontsize=9)
                column += 1
            if column < len(widths):
                line[column].set_axis_off()
                column += 1
        line[0].text(-0.08, 0.5, plain(id, 12), transform=line[0].transAxes, rotation=90, va="center", ha="right")
    return figure

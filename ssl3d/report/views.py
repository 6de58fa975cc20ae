"""The inputs of the networks: views of training volumes, made again by each method from the encoder's recipe."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure

from ssl3d.data.corpus import Corpus
from ssl3d.data.rng import Rng
from ssl3d.data.store import CPU
from ssl3d.errors import RunError
from ssl3d.report.material import Drawing, Run, Section, stem
from ssl3d.report.style import drawing, plain
from ssl3d.report.volumes import LEFT_OUT, Pictures, show, slices, window
from ssl3d.results.model import EncoderRecord
from ssl3d.run.graph import plugin_sources
from ssl3d.run.trust import Named, require_trusted
from ssl3d.train.build import build_method, method_class

ROWS = 3  # training volumes
MOST = 4  # views of one volume


@dataclass
class _Grid:
    """Pictures of a few volumes and their views, and the methods that make exactly these views.

    Attributes:
        names: names of the methods.
        ids: ids of the volumes.
        rows: for each volume, itself and its views, each (D, H, W).
        views: number of views that the methods make of a volume.
    """

    ids: list[str]
    rows: list[list[np.ndarray]]
    views: int
    names: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        content = hashlib.sha256("\n".join(self.ids).encode())
        for volume in (volume for row in self.rows for volume in row):
            content.update(np.ascontiguousarray(volume).data)
        return f"{self.views} {content.hexdigest()}"


def views(run: Run, pictures: Pictures | None) -> Section:
    """Draw views of a few training volumes, one figure for all methods that make the same views of them."""
    section = Section("views", "What the networks saw")
    if pictures is None:
        section.notes.append(LEFT_OUT)
        return section
    section.notes.extend(f"{note}." for note in pictures.notes)
    grids: dict[str, _Grid] = {}
    for name, encoder in _first_seeds(run):
        recipe = encoder.recipe
        try:
            plugged: list[Named] = [("methods", recipe.method), ("backbones", recipe.backbone)]
            require_trusted(plugged, run.allow_code, "--allow-code")
        except RunError as error:
            section.notes.append(f"{name}: its views are left out: {error}.")
            continue
        try:
            made = _made(run, pictures, encoder)
        except Exception as error:  # a plugin that is missing, was edited, or fails must not prevent the report
            reason = " ".join(str(error).split()) or type(error).__name__
            section.notes.append(f"{name}: its views cannot be made ({reason}).")
            continue
        if made is None:
            section.notes.append(f"{name}: its packed volumes are not where the run had them, so views are left out.")
            continue
        grids.setdefault(made.digest, made).names.append(name)
    section.drawings.extend(map(_drawn, grids.values()))
    if not run.trained():
        section.notes.append("Nothing was pretrained in this run, so no network saw any view.")
    return section


def _first_seeds(run: Run) -> Iterator[tuple[str, EncoderRecord]]:
    """Yield the first encoder of each method and corpus, and its name, with the corpus if there are several."""
    several = len({encoder.corpus.name for encoder in run.trained() if encoder.corpus}) > 1
    seen = set()
    for encoder in run.trained():
        corpus = encoder.corpus.name if encoder.corpus else ""
        name = run.name_of_encoder(encoder)
        if (name, corpus) not in seen:
            seen.add((name, corpus))
            yield (f"{name} ({corpus})" if several else name), encoder


def _made(run: Run, pictures: Pictures, encoder: EncoderRecord) -> _Grid | None:
    """Return views of the first training volumes as in the first step; None without the volumes."""
    evaluations = [one.record for one in run.results.evaluated if one.record.encoder == encoder.key]
    corpus = pictures.corpus(encoder, evaluations)
    if corpus is None:
        return None
    reference = encoder.recipe.method
    if plugin_sources("methods", reference, method_class(reference)) != encoder.made_by.sources.get("method"):
        raise ValueError("the method's source was changed since")
    task = corpus.stores[0].task(encoder.recipe.task) if encoder.recipe.task else None
    method = build_method(encoder.recipe, initialise=False, task=task, volumes=len(corpus))
    chosen = range(min(ROWS, len(corpus)))
    volumes = corpus.volumes(chosen, CPU)
    made = method.views(volumes, Rng(encoder.recipe.seed, 0, chosen)).tensors
    rows = []
    for row, voxels in enumerate(volumes.voxels):
        own = (voxels[0].float().numpy() - float(volumes.mean[row])) / float(volumes.std[row])
        rows.append([own, *(view[row, 0].detach().float().numpy() for view in made[:MOST])])
    return _Grid(_ids(corpus, chosen), rows, len(made))


def _ids(corpus: Corpus, chosen: range) -> list[str]:
    places = [corpus.places[index] for index in chosen]
    return [corpus.stores[number].ids([index])[0] for number, index in places]


def _drawn(grid: _Grid) -> Drawing:
    names = ", ".join(map(plain, grid.names))
    shown = len(grid.rows[0]) - 1
    count = f"{shown} of {grid.views}" if shown < grid.views else str(shown)
    verb = "make" if len(grid.names) > 1 else "makes"
    with drawing():
        figure = _figure(grid)
    return Drawing(
        stem("views", *grid.names),
        names,
        f"One row per training volume: the volume, then {count} views of it as {names} {verb} them, each as slices at "
        "a quarter, a half and three quarters of its depth. Made again with the run's settings; the greys are those of "
        "the volume, so changes of intensity show.",
        f"{len(grid.rows)} training volumes and {count} views of each, made by {names}.",
        figure,
    )


def _figure(grid: _Grid) -> Figure:
    blocks = [max(len(slices(row[block])) for row in grid.rows) for block in range(len(grid.rows[0]))]
    gap = 0.25  # of a picture, between the blocks
    widths = [width for block in blocks for width in [*[1.0] * block, gap]][:-1]
    figure = Figure(figsize=(0.86 * sum(widths) + 0.3, 0.9 * len(grid.rows) + 0.35))
    axes = figure.subplots(len(grid.rows), len(widths), squeeze=False, width_ratios=widths)
    figure.subplots_adjust(left=0.035, right=0.995, bottom=0.01, top=1 - 0.3 / figure.get_figheight(), hspace=0.05)
    figure.subplots_adjust(wspace=0.04)
    for ax in axes.ravel():
        ax.set_axis_off()
    for number, (line, volumes, id) in enumerate(zip(axes, grid.rows, grid.ids, strict=True)):
        limits, column = window(volumes[0]), 0
        for block, volume in enumerate(volumes):
            for index, picture in enumerate(slices(volume)):
                show(line[column + index], picture, limits)
            if number == 0:
                line[column].set_title("volume" if block == 0 else f"view {block}", fontsize=9)
            column += blocks[block] + 1
        line[0].text(-0.08, 0.5, plain(id, 12), transform=line[0].transAxes, rotation=90, va="center", ha="right")
    return figure

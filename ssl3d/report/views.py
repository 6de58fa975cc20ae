"""The inputs of the networks: views of training volumes, made again by each method from the encoder's recipe."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ssl3d.data.corpus import Corpus
from ssl3d.data.rng import Rng
from ssl3d.data.store import CPU
from ssl3d.errors import RunError
from ssl3d.report.material import Drawing, Run, Section, stem
from ssl3d.report.panels import Area, Painter, Panels
from ssl3d.report.style import plain
from ssl3d.report.volumes import LEFT_OUT, Pictures, strip, window
from ssl3d.results.model import EncoderRecord
from ssl3d.run.graph import plugin_sources
from ssl3d.run.trust import Named, require_trusted
from ssl3d.train.build import build_method, method_class

ROWS = 3  # training volumes
MOST = 4  # views of one volume
GRIDS = 5  # different ways to make views; more than two are drawn for one volume each


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
    section = Section("views", "Training views")
    if pictures is None:
        section.notes.append(LEFT_OUT)
        return section
    section.notes.extend(f"{note}." for note in pictures.notes)
    grids: dict[str, _Grid] = {}
    without: dict[str, list[str]] = {}  # reasons, and the methods that have no views for them
    for name, encoder in _first_seeds(run):
        recipe = encoder.recipe
        try:
            plugged: list[Named] = [("methods", recipe.method), ("backbones", recipe.backbone)]
            require_trusted(plugged, run.allow_code, "--allow-code")
        except RunError as error:
            without.setdefault(f"views are left out: {error}", []).append(name)
            continue
        try:
            made = _made(run, pictures, encoder)
        except Exception as error:  # a plugin that is missing, was edited, or fails must not prevent the report
            reason = " ".join(str(error).split()) or type(error).__name__
            without.setdefault(f"views cannot be made ({reason})", []).append(name)
            continue
        if made is None:
            without.setdefault("packed volumes are not where the run had them, so views are left out", []).append(name)
            continue
        grids.setdefault(made.digest, made).names.append(name)
    section.notes.extend(f"{', '.join(names)}: {reason}." for reason, names in without.items())
    shared = sorted(grids.values(), key=lambda grid: -len(grid.names))
    rows = ROWS if len(shared) <= 2 else 1
    section.drawings.extend(_drawn(grid, rows) for grid in shared[:GRIDS])
    if rest := [plain(name) for grid in shared[GRIDS:] for name in grid.names]:
        section.notes.append(f"Other views, made by fewer methods, are not drawn: {', '.join(rest)}.")
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


def _drawn(grid: _Grid, rows: int) -> Drawing:
    names = ", ".join(map(plain, grid.names))
    more = f" and {len(grid.names) - 4} more" if len(grid.names) > 5 else ""
    shown = len(grid.rows[0]) - 1
    count = f"{shown} of {grid.views}" if shown < grid.views else str(shown)
    drawn = list(zip(grid.rows, grid.ids, strict=True))[:rows]
    return Drawing(
        stem("views", *grid.names),
        (", ".join(map(plain, grid.names[:4])) + more) if more else names,
        f"{'Training volumes' if len(drawn) > 1 else 'A training volume'}, each with {count} views of it, as slices at "
        "a quarter, a half and three quarters of the depth. Made again with the settings of the first seed, as in its "
        f"first step. The greys are those of the volume, so changes of intensity show. Views of: {names}.",
        f"{len(drawn)} training volumes and {count} views of each, made by {names}.",
        Panels([paint for volumes, id in drawn for paint in _painters(volumes, id)], 1.5),
    )


def _painters(volumes: list[np.ndarray], id: str) -> list[Painter]:
    """Return one panel for a volume, and one per view of it."""
    titles = [f"volume {plain(id, 24)}", *(f"view {index}" for index in range(1, len(volumes)))]
    limits = window(volumes[0])
    return [partial(_panel, title=title, volume=of, limits=limits) for title, of in zip(titles, volumes, strict=True)]


def _panel(figure: Area, title: str, volume: np.ndarray, limits: tuple[float, float]) -> None:
    ax = figure.subplots()
    strip(ax, volume, limits)
    ax.set_title(title)

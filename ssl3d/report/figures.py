"""Every figure of a run, in the order of the report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ssl3d.report.cases import cases
from ssl3d.report.curves import imbalance, labels
from ssl3d.report.forest import forest
from ssl3d.report.maps import maps
from ssl3d.report.material import Drawing, Run, Section
from ssl3d.report.price import price
from ssl3d.report.roc import roc
from ssl3d.report.style import to_png, to_svg
from ssl3d.report.training import training
from ssl3d.results.files import write_atomic

PNG_DPI = 300


def sections(run: Run, volumes: bool = True) -> Iterator[Section]:
    """Yield the report's parts, each with its figures; ``volumes``: pictures of volumes, too."""
    for draw in (forest, roc, labels, imbalance, price, training, maps):
        yield draw(run)
    from ssl3d.report.volumes import LEFT_OUT, Pictures  # noqa: PLC0415  # loads torch

    pictures = Pictures(run.folder) if volumes else None
    yield cases(run, pictures)
    if pictures is None:
        yield Section("views", "What the networks saw", notes=[LEFT_OUT])
        return
    from ssl3d.report.views import views  # noqa: PLC0415  # loads torch and plugins

    yield views(run, pictures)


def write_figures(
    run: Path, folder: Path | None = None, formats: tuple[str, ...] = ("png", "svg"), volumes: bool = True
) -> tuple[list[Path], list[str]]:
    """Write every figure of a run as PNG (300 dots an inch) and SVG.

    Args:
        run: folder of the run.
        folder: where to write; ``RUN/figures`` if None.
        formats: of "png", "svg".
        volumes: pictures of volumes, too.

    Returns:
        The files, and one sentence for each thing that could not be drawn.

    Raises:
        RunError: the run cannot be read, or the folder cannot be written.
    """
    folder = folder or run / "figures"
    written, notes, stems = [], [], set[str]()
    for section in sections(Run.read(run), volumes):
        notes += [f"{section.title}: {note}" for note in section.notes]
        for drawn in section.drawings:
            stem = _stem(drawn, stems)
            for form in formats:
                path = folder / f"{stem}.{form}"
                write_atomic(path, to_svg(drawn.figure) if form == "svg" else to_png(drawn.figure, PNG_DPI))
                written.append(path)
    return written, notes


def _stem(drawn: Drawing, taken: set[str]) -> str:
    """A file name of letters, digits, dots and dashes, unlike those taken."""
    base = re.sub(r"[^A-Za-z0-9]+", "-", drawn.name).strip("-")[:80]
    stem, number = base, 1
    while stem in taken:
        number += 1
        stem = f"{base}-{number}"
    taken.add(stem)
    return stem

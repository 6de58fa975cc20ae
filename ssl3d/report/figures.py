"""Every figure of a run, in the order of the report."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ssl3d.errors import RunError
from ssl3d.files import write_atomic
from ssl3d.report.cases import cases
from ssl3d.report.curves import imbalance, labels
from ssl3d.report.forest import forest
from ssl3d.report.maps import maps
from ssl3d.report.material import Drawing, Run, Section
from ssl3d.report.price import price
from ssl3d.report.roc import roc
from ssl3d.report.style import to_png, to_svg
from ssl3d.report.training import training
from ssl3d.report.views import views
from ssl3d.report.volumes import Pictures

PNG_DPI = 300


def sections(run: Run, volumes: bool = True) -> Iterator[Section]:
    """Yield the report's sections with their figures; ``volumes``: include pictures of volumes."""
    for draw in (forest, roc, labels, imbalance, price, training, maps):
        yield draw(run)
    pictures = Pictures(run) if volumes else None
    yield cases(run, pictures)
    yield views(run, pictures)


def write_figures(
    run: Path,
    folder: Path | None = None,
    formats: tuple[str, ...] = ("png", "svg"),
    volumes: bool = True,
    announce: Callable[[str], None] | None = None,
    *,
    allow_code: bool = False,
) -> tuple[list[Path], list[str]]:
    """Write every figure of a run as PNG (300 dots per inch) and SVG.

    Args:
        run: folder of the run.
        folder: where to write; ``RUN/figures`` if None.
        formats: of "png", "svg".
        volumes: include pictures of volumes.
        announce: called with the title of each section once it is drawn.
        allow_code: also import plugins that the run names by file or module.

    Returns:
        The files, and one sentence per figure that could not be drawn.

    Raises:
        RunError: the run cannot be read, or the folder cannot be written.
    """
    folder = folder or run / "figures"
    if folder.is_symlink():
        raise RunError(f"{folder} is a symbolic link, which is not followed; replace it by a folder, or give --out")
    written, notes, stems = [], [], set[str]()
    for section in sections(Run.read(run, allow_code), volumes):
        if announce is not None:
            announce(section.title)
        notes += [f"{section.title}: {note}" for note in section.notes]
        for drawn in section.drawings:
            stem = _stem(drawn, stems)
            for form in formats:
                path, figure = folder / f"{stem}.{form}", drawn.panels.file()  # drawing twice would move its layout
                write_atomic(path, to_svg(figure) if form == "svg" else to_png(figure, PNG_DPI))
                written.append(path)
    return written, notes


def _stem(drawn: Drawing, taken: set[str]) -> str:
    """Return a unique file name of letters, digits, dots and dashes."""
    base = re.sub(r"[^A-Za-z0-9]+", "-", drawn.name).strip("-")[:80]
    stem, number = base, 1
    while stem in taken:
        number += 1
        stem = f"{base}-{number}"
    taken.add(stem)
    return stem

"""Figures of panels: one figure for a file; for a page, one SVG per panel, which the page arranges by its width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from ssl3d.report.style import Look, drawing, plain, to_svg

NARROW, PAGE = 3.6, 11.0  # inches: a panel on a phone or in three columns; the page
FILE = 7.6  # inches: a figure in a file
KEY = (0.42, 0.16)  # inches: a sample of a line in a legend
Area = Figure | SubFigure  # where a panel is drawn
Painter = Callable[[Area], None]  # draws one panel, whatever its size
Mark = dict[str, Any]  # properties of a matplotlib line


@dataclass(frozen=True)
class Panels:
    """The panels of one figure.

    Attributes:
        paint: draws each panel into a figure, or into a part of one.
        height: of a panel, in inches, where it is :data:`NARROW` wide.
        columns: of a file; panels of a file with three or more columns are smaller than those of a page.
        stretch: whether a panel may be wider than it is high; else it keeps its shape.
        legend: a line or marker for each text below the panels.
    """

    paint: Sequence[Painter]
    height: float
    columns: int = 3
    stretch: bool = True
    legend: Mapping[str, Mark] = field(default_factory=dict)

    def file(self) -> Figure:
        """Return all panels in rows as one figure, with the legend below."""
        count = len(self.paint)
        columns = min(self.columns, count)
        width = FILE / self.columns
        height = self.height * min(1.0, width / NARROW)
        rows = -(-count // columns)
        with drawing():
            legend = 0.2 * -(-len(self.legend) // 4)
            figure = Figure(figsize=(width * columns, height * rows + legend), layout="constrained")
            for paint, part in zip(self.paint, figure.subfigures(rows, columns, squeeze=False).ravel(), strict=False):
                paint(part)
            if self.legend:
                handles = [Line2D([], [], **mark) for mark in self.legend.values()]
                figure.legend(handles, list(self.legend), loc="outside lower left", ncols=min(4, len(handles)))
        return figure

    @cached_property
    def narrow(self) -> list[str]:
        """SVGs of the panels, for a column of a page or a phone."""
        return [self._svg(paint, NARROW) for paint in self.paint]

    @cached_property
    def wide(self) -> list[str]:
        """SVGs of one or two panels that share the width of a page; none if they would fill it in columns."""
        count = len(self.paint)
        return [self._svg(paint, PAGE / count) for paint in self.paint] if self.stretch and count < 3 else []

    @property
    def keys(self) -> list[tuple[str, str]]:
        """Texts of the legend, each with an SVG of its line or marker."""
        return [(text, _key(mark)) for text, mark in self.legend.items()]

    def _svg(self, paint: Painter, width: float) -> str:
        with drawing():
            figure = Figure(figsize=(width, self.height), layout="constrained")
            paint(figure)
        return to_svg(figure, page=True)


def marks(looks: Mapping[str, Look], names: Sequence[str]) -> dict[str, Mark]:
    """Return the legend of methods by their names."""
    return {
        plain(name): {"color": looks[name].colour, "marker": looks[name].marker, "linestyle": looks[name].dashes}
        for name in names
    }


def is_narrow(area: Area) -> bool:
    """Return whether a panel has the width of a phone."""
    return bool(area.bbox.width / area.dpi < 1.4 * NARROW)


def _key(mark: Mark) -> str:
    with drawing():
        figure = Figure(figsize=KEY)
        line = Line2D([0.03, 0.5, 0.97], [0.5, 0.5, 0.5], markevery=[1], transform=figure.transFigure, **mark)
        figure.add_artist(line)
    return to_svg(figure, page=True)

"""The style of all figures: readable without colour, on paper, and on a dark screen."""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure

INK, MUTED, FAINT = "#1b1c1e", "#6e7277", "#d5d8dc"  # on a page they follow its light or dark colours
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6fc0")  # Okabe & Ito, and violet
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
DASHES: Sequence[Any] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (9, 2)))
RC = {
    "font.family": "DejaVu Sans",  # included in matplotlib: the same layout on every machine
    "font.size": 9.0,
    "svg.fonttype": "none",  # text stays text: searchable, small, read aloud
    "svg.hashsalt": "ssl3d",  # the same bytes for the same figure
    "text.parse_math": False,  # a name may contain dollar signs
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
PAGE_COLOURS = {INK: "currentColor", MUTED: "var(--muted)", FAINT: "var(--line)"}
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True)
class Look:
    """The style by which a method is recognised: colour, and without it marker and dashes."""

    colour: str
    marker: str
    dashes: Any


def looks(names: Sequence[str]) -> dict[str, Look]:
    """Return a style for each name; 7 colours and 8 markers give 56 different pairs."""
    return {
        name: Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)])
        for i, name in enumerate(names)
    }


def plain(text: object, longest: int = 34) -> str:
    """Return a text for a figure: control and direction marks are replaced, and long texts truncated."""
    shown = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c)[0] == "C" else c for c in str(text))
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


@contextmanager
def drawing() -> Iterator[None]:
    """Draw inside with our settings instead of the user's; restore them afterwards."""
    with style.context(["default", RC]), warnings.catch_warnings():
        # A name in a script that the font lacks: a box in a PNG, and the reader's own font in an SVG.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def to_svg(figure: Figure, page: bool = False) -> str:
    """Return a figure as SVG: standalone, or (``page``) inline in a page, with the page's colours."""
    buffer = io.StringIO()
    with drawing():
        figure.savefig(
            buffer,
            format="svg",
            metadata={"Date": None, "Creator": None},
            facecolor="none" if page else "white",
        )
    return _inline(buffer.getvalue()) if page else re.sub("'DejaVu Sans'(?=[;\"])", FONTS, buffer.getvalue())


def to_png(figure: Figure, dpi: int) -> bytes:
    """Return a figure as PNG with a white background."""
    buffer = io.BytesIO()
    with drawing():
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None}, facecolor="white")
    return buffer.getvalue()


def _inline(svg: str) -> str:
    """Make an SVG part of a page, which decides its size, font and greys, and shorten it: a page contains many."""
    svg = re.sub("<!--.*?-->\n?", "", svg[svg.index("<svg") :], flags=re.DOTALL)  # matplotlib escapes "--" in them
    svg = re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', "", svg, count=1)
    svg = re.sub(r' transform="rotate\(-?0 [^"]*"', "", svg.replace(" font-family: 'DejaVu Sans';", ""))
    svg = re.sub(r'(?<= )(?:d|x|y|transform)="[^"]*"', lambda m: re.sub(r"(\.\d\d)\d+", r"\1", m[0]), svg)
    used = set(re.findall(r"[(\"]#([^\")]+)[)\"]", svg))
    svg = re.sub(r'(<[A-Za-z]+[^<>]*?) id="([^"]+)"', lambda m: m[0] if m[2] in used else m[1], svg)
    for fixed, followed in PAGE_COLOURS.items():
        svg = svg.replace(fixed, followed)
    return svg.strip()

"""A word on choices at the edge of their grid, beyond which a better value may lie. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence


def edge_note(what: str, value: float, grid: Sequence[float], setting: str, *, inverse: str = "") -> tuple[str, ...]:
    """Return a sentence if the chosen value is the smallest or largest of its grid.

    A grid of one or two values consists of edges only, so nothing is said about it.

    Args:
        what: the chosen quantity in words ("penalty").
        value: its value in the grid.
        grid: values to choose from.
        setting: dotted name of the setting that lists them.
        inverse: name of the values if they are the inverse of the quantity ("C").
    """
    if len(set(grid)) < 3 or min(grid) < value < max(grid):
        return ()
    at_top = value == max(grid)
    size = "largest" if at_top != bool(inverse) else "smallest"
    named = f"{inverse} = {value:g}" if inverse else f"{value:g}"
    return (
        f"the chosen {what} is the {size} of the grid ({named}): add {'larger' if at_top else 'smaller'} values to "
        f"{setting}",
    )

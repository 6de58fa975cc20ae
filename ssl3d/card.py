"""What a plugin says of itself, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """The card of a plugin, printed by ``ssl3d show`` and, where it departs, by the leaderboard.

    Attributes:
        name: the name as people write it, "BYOL".
        summary: one line for lists.
        paper: authors and title, or None for a baseline.
        year: of the paper.
        link: where to read it.
        departures: what this implementation does differently from the paper, one sentence each.
        licence: of what the plugin brings with it (weights, data), where that is not the project's own.
    """

    name: str
    summary: str
    paper: str | None = None
    year: int | None = None
    link: str | None = None
    departures: tuple[str, ...] = ()
    licence: str | None = None

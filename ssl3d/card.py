"""What a plugin says about itself, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """The card of a plugin, printed by ``ssl3d show``; the leaderboard prints its departures.

    Attributes:
        name: display name, such as "BYOL".
        summary: one line for lists.
        paper: authors and title, or None for a control.
        year: year of the paper.
        link: address of the paper.
        departures: what this implementation does differently from the paper, one sentence each.
        licence: licence of what the plugin ships (weights, data), if it differs from the project's.
    """

    name: str
    summary: str
    paper: str | None = None
    year: int | None = None
    link: str | None = None
    departures: tuple[str, ...] = ()
    licence: str | None = None

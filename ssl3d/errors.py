"""Errors that are the user's to mend: each message is one sentence with what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The command line prints the message without a traceback and exits with code 2."""


class DataError(UserError):
    """A data set, or a file of it, cannot be used as it is. Names the file, and the row where there is one."""


class RecipeError(UserError):
    """A setting is unknown, out of bounds, or contradicts another one."""


class PluginError(UserError):
    """A plugin is unknown, claimed twice, or cannot be imported."""


class WeightsError(UserError):
    """Pretrained weights are absent, corrupt, or do not match the network."""


class RunError(UserError):
    """A run folder cannot be written, holds another run, or holds a damaged result."""


MOST_LISTED = 30  # names in a message


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or the known names if none is near."""
    known = sorted(set(known))
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if match:
        return f"; did you mean {match[0]!r}?"
    return f"; known: {', '.join(known)}" if 0 < len(known) <= MOST_LISTED else ""

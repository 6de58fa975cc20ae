"""Errors that the user can fix: each message states in one sentence what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

LONGEST_QUOTE = 80  # maximum characters of a text quoted in a message
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode categories: control, invisible or not encodable


class UserError(Exception):
    """Bad input. The command line prints the message without a traceback and exits with code 2.

    The message may quote text from files: terminal control characters are escaped.
    """

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n")


class DataError(UserError):
    """A data set or one of its files cannot be used as it is. Names the file, and the row if there is one."""


class RecipeError(UserError):
    """A setting is unknown, out of bounds, or contradicts another one."""


class PluginError(UserError):
    """A plugin is unknown, registered twice, or cannot be imported."""


class WeightsError(UserError):
    """Pretrained weights are missing, corrupt, or do not match the network."""


class RunError(UserError):
    """A run folder cannot be written, holds another run, or holds a damaged result."""


MOST_LISTED = 48
LONGEST_NAME = 200  # characters; comparing longer names is slow
LONGEST_MESSAGE = 1_000


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or the known names if none is near."""
    if len(name) > LONGEST_NAME:
        return ""
    known = sorted(set(known))
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if match:
        return f"; did you mean {match[0]!r}?"
    return f"; known: {', '.join(known)}" if 0 < len(known) <= MOST_LISTED else ""


def hidden(text: str) -> str | None:
    """Return the first control, invisible or unencodable character of a text; None if there is none."""
    if text.isprintable():
        return None
    return next((character for character in text if unicodedata.category(character) in HIDDEN), None)


def printable(text: str, keep: str = "") -> str:
    r"""Return a text with hidden characters escaped, as in ``\x1b``, except those in ``keep``."""
    if text.isprintable():
        return text
    return "".join(
        ascii(character)[1:-1] if unicodedata.category(character) in HIDDEN and character not in keep else character
        for character in text
    )


def shortened(text: str, longest: int = LONGEST_QUOTE) -> str:
    """Return a text printable and truncated."""
    return printable(text[:longest]) + (f"... ({len(text):,} characters)" if len(text) > longest else "")


def quoted(text: str) -> str:
    """Return a text in quotes for a message, printable and truncated."""
    return repr(text[:LONGEST_QUOTE]) + (f"... ({len(text):,} characters)" if len(text) > LONGEST_QUOTE else "")


def brief(message: str) -> str:
    """Return a message as one line of bounded length; very long words and texts are truncated."""
    words = re.sub(r"[^\s'\"/;,()]{201,}", lambda found: shortened(found[0]), message)
    words = " ".join(words[: 2 * LONGEST_MESSAGE].split())
    if len(words) <= LONGEST_MESSAGE:
        return printable(words)
    return shortened(words, LONGEST_MESSAGE).rpartition(" (")[0] + f" (a message of {len(message):,} characters)"

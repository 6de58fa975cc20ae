"""The sentence on controls that a table lacks. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def lacking_controls(by_reason: Mapping[str, Sequence[str]]) -> str:
    """Return which controls a table lacks, and why; empty if it has all.

    Args:
        by_reason: names of the controls by the reason, which is empty if it is not known.
    """
    parts = [f"{', '.join(names)}{f' ({reason})' if reason else ''}" for reason, names in by_reason.items() if names]
    return f"Controls that the table lacks: {'; '.join(parts)}." if parts else ""

"""The sentence on tuning that stands under every table, and in a dry run. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

_CLAIM = "Methods with these settings on these data"


def tuned(grids: Mapping[str, str], planned: bool = False) -> str:
    """Return whether methods were tuned, and how.

    Args:
        grids: by name of each method that is pretrained, the factors of its learning rate that were tried (see
            :func:`ssl3d.tables.columns.grid`); empty if it was not tuned.
        planned: whether it is still to be done.
    """
    verb = "is" if planned else "was"
    chosen = {name: text for name, text in grids.items() if text}
    if not chosen:
        return f"{_CLAIM}; none {verb} tuned."
    grids_tried = dict.fromkeys(chosen.values())
    parts = [_part(text, verb, [name for name in chosen if chosen[name] == text]) for text in grids_tried]
    if len(parts) == 1 and len(chosen) == len(grids):
        parts = [_part(next(iter(chosen.values())), verb, ["each method"])]
    rest = ", ".join(name for name in grids if name not in chosen)
    return (
        f"{_CLAIM}; the learning rate of {', and that of '.join(parts)}, by a linear probe on inner folds of the "
        f"training split; nothing else {verb} tuned{f', and {rest} not at all' if rest else ''}."
    )


def tuned_of(leaderboard: pd.DataFrame) -> str:
    """Return whether the methods of a table were tuned, and how; empty for an empty table."""
    if leaderboard.empty:
        return ""
    trained = leaderboard[leaderboard["corpus"].notna()]
    rows = zip(trained["method"], trained["tuned"].fillna(""), strict=True)
    return tuned({str(method): str(text) for method, text in rows})


def _part(text: str, verb: str, names: list[str]) -> str:
    return f"{', '.join(names)} {verb} chosen from {text.count(',') + 1} values ({text} times its recipe's)"

"""What stands above and below a table: its data, what it could and could not show, departures from papers."""

from __future__ import annotations

from typing import Any

import pandas as pd

_PLACE = ("task", "plane")


def by_table(leaderboard: pd.DataFrame, comparisons: pd.DataFrame) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Return the leaderboard and its comparisons for each task and plane, in the order of the leaderboard."""
    places = leaderboard[["task", "plane"]].drop_duplicates()
    return [(_at(leaderboard, place), _at(comparisons, place)) for place in places.itertuples(index=False)] or [
        (leaderboard, comparisons)
    ]


def _at(table: pd.DataFrame, place: tuple[Any, ...]) -> pd.DataFrame:
    """Rows of one task and plane; either may be missing."""
    same = [
        table[name].isna() if pd.isna(value) else table[name] == value
        for name, value in zip(_PLACE, place, strict=True)
    ]
    return table[(same[0] & same[1]).fillna(False).astype(bool)]


def caption(leaderboard: pd.DataFrame) -> str:
    """Return one line: the data, called synthetic where they are, task, plane, number of test volumes."""
    known = leaderboard[leaderboard["n_test"].notna()]
    if known.empty:
        return "No cell has finished."
    row = known.iloc[0]
    said = "synthetic" in str(row["data"])
    text = str(row["data"]) + (" (synthetic data)" if row["synthetic"] and not said else "")
    parts = [text, f"task {row['task']}" if pd.notna(row["task"]) else ""]
    plane = f"plane {row['plane']}" if pd.notna(row["plane"]) and row["plane"] not in str(row["data"]) else ""
    parts += [plane, f"{row['n_test']} test volumes"]
    parts += [f"{row['folds']}-fold cross-validation"] if pd.notna(row["folds"]) else []
    return ", ".join(part for part in parts if part) + "."


def conclusion(comparisons: pd.DataFrame) -> str:
    """Return what the test set could and could not show, protocol by protocol; empty without a pair."""
    sentences = []
    for protocol, pairs in comparisons.groupby("protocol", sort=False):
        tied = int((pairs["verdict"] == "cannot be separated").sum())
        sentence = f"{protocol}: {tied} of {len(pairs)} pairs cannot be separated"
        detectable = pairs["smallest_detectable"].dropna()
        if not detectable.empty:
            low, high = (f"{value:.3f}" for value in (detectable.min(), detectable.max()))
            size = low if low == high else f"{low} to {high}, depending on the pair"
            sentence += f"; smallest difference in AUC that this test set shows in 8 of 10 trials: {size}"
        sentences.append(sentence + ".")
    if not sentences:
        return ""
    return "Methods that share a letter cannot be separated (Holm-corrected, 5%). " + " ".join(sentences)


def departures(leaderboard: pd.DataFrame) -> list[str]:
    """Return one sentence a method that departs from its paper: "byol: ..."."""
    known = leaderboard[leaderboard["departures"].notna()][["method", "departures"]].drop_duplicates()
    return [f"{method}: {text.replace('.; ', '. ')}" for method, text in known.itertuples(index=False)]


def versus(leaderboard: pd.DataFrame) -> str:
    """Return what the columns of a named baseline hold; empty without one."""
    if "baseline" not in leaderboard or leaderboard.empty:
        return ""
    name = leaderboard["baseline"].iloc[0]
    return (
        f"Difference: AUC minus that of {name}, with its 95% interval; p is corrected (Holm) for the comparisons with "
        "it alone."
    )

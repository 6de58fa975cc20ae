"""The sentences around a table: its data, how it was made, and what it shows or cannot show. Loads no torch."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ssl3d.results.results import Results
from ssl3d.tables.entry import MEAN, PLUS
from ssl3d.tables.formats.tuned import tuned_of

LABELS_MARK = " (labels)"  # after the name of a method that saw labels in pretraining
_TABLE = ("data", "task", "plane")
_SEVERAL = (
    "Scores are means over {what}; intervals and tests allow for the correlation of {what} that are predicted for the "
    "same patients."
)
_PLANES = (
    "Planes are combined by unpenalised logistic regression on their log-odds, fitted on out-of-fold predictions of "
    "the training cases."
)
_FOLDS = (
    "Scores are means over folds; intervals and tests are made within folds and treat these as independent. The folds' "
    "encoders share training volumes, so both are optimistic about another sample of training volumes."
)
_ONE_SEED = (
    "With one seed, what is compared is one encoder of each method, and methods have no rank; several seeds, as in "
    "--seeds 0-2, compare methods."
)
_SOME_ONE_SEED = "Rows with one seed are of one encoder, not of a method, and have no rank."
_LABELS_USED = f"Methods marked{LABELS_MARK} saw the labels of training volumes in pretraining."
_NO_PATIENTS = "Patients are unknown in this data set: every volume is taken for one, so intervals may be too narrow."


def by_table(leaderboard: pd.DataFrame, comparisons: pd.DataFrame) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Return the rows of both tables for each data set, task and plane, in the order of the leaderboard."""
    keys = leaderboard[list(_TABLE)].drop_duplicates()
    return [(_of(leaderboard, key), _of(comparisons, key)) for key in keys.itertuples(index=False)] or [
        (leaderboard, comparisons)
    ]


def _of(rows: pd.DataFrame, key: tuple[Any, ...]) -> pd.DataFrame:
    """Return the rows of one data set, task and plane; each of these may be missing."""
    chosen = pd.Series(True, index=rows.index)
    for name, value in zip(_TABLE, key, strict=True):
        chosen &= rows[name].isna() if pd.isna(value) else (rows[name] == value).fillna(False).astype(bool)
    return rows[chosen]


def caption(leaderboard: pd.DataFrame) -> str:
    """Return one line: the data, marked if synthetic, task, plane, and numbers of test volumes and patients."""
    if leaderboard.empty:
        return "No evaluation is complete."
    known = leaderboard[leaderboard["n_test"].notna()]
    row = (leaderboard if known.empty else known).iloc[0]
    generated = pd.notna(row["synthetic"]) and row["synthetic"] and "synthetic" not in str(row["data"])
    parts = [str(row["data"]) + (" (synthetic data)" if generated else ""), f"task {row['task']}"]
    parts += [f"plane {row['plane']}"] if pd.notna(row["plane"]) else []
    parts += [_size(row)] if len(known) else ["no evaluation is complete"]
    parts += [f"{row['folds']}-fold cross-validation"] if pd.notna(row["folds"]) else []
    return ", ".join(parts) + "."


def _size(row: pd.Series) -> str:
    volumes, patients = row["n_test"], row["n_test_patients"]
    return f"{volumes} test volumes" + (f" of {patients} patients" if patients != volumes else "")


def remarks(leaderboard: pd.DataFrame) -> str:
    """Return how one table was made: tuning, means over tasks and folds, planes combined, labels seen, patients."""
    found = [text] if (text := tuned_of(leaderboard)) else []
    known = leaderboard[leaderboard["auc"].notna()]
    if not known.empty:
        row = known.iloc[0]
        several = "tasks" if str(row["task"]).startswith(MEAN) else "labels" if row["kind"] == "multilabel" else ""
        found += [_SEVERAL.format(what=several)] if several else []
        found += [_PLANES] if PLUS in str(row["plane"]) else []
        found += [_FOLDS] if pd.notna(row["folds"]) else []
        if (known["seeds"] == 1).any():
            found += [_ONE_SEED if (known["seeds"] == 1).all() else _SOME_ONE_SEED]
    found += [_LABELS_USED] if leaderboard["labels_used"].fillna(False).any() else []
    found += [_NO_PATIENTS] if (~leaderboard["patients_known"].fillna(True)).any() else []
    return " ".join(found)


def conclusion(comparisons: pd.DataFrame) -> str:
    """Return what the test set could and could not show, by protocol; empty if there are no pairs."""
    sentences = []
    for protocol, pairs in comparisons.groupby("protocol", sort=False):
        tied = int((pairs["verdict"] == "cannot be separated").sum())
        sentence = f"{protocol}: {tied} of {len(pairs)} pairs cannot be separated"
        detectable = pairs["smallest_detectable"].dropna()
        if not detectable.empty:
            low, high = (f"{value:.3f}" for value in (detectable.min(), detectable.max()))
            size = low if low == high else f"{low} to {high}, depending on the pair"
            sentence += f"; smallest true difference in AUC that would be found in 8 of 10 such test sets: {size}"
        sentences.append(sentence + ".")
    if not sentences:
        return ""
    return "Methods that share a letter cannot be separated (Holm-corrected, 5%). " + " ".join(sentences)


def versus(leaderboard: pd.DataFrame) -> str:
    """Return what the columns of a named baseline contain; empty if there is none."""
    if "baseline" not in leaderboard or leaderboard.empty:
        return ""
    name = leaderboard["baseline"].iloc[0]
    return (
        f"Difference: AUC minus that of {name}, with its 95% interval; p is corrected (Holm) for the comparisons with "
        "it alone."
    )


def departures(leaderboard: pd.DataFrame) -> list[str]:
    """Return one sentence per method that departs from its paper: "byol: ..."."""
    known = leaderboard[leaderboard["departures"].notna()][["method", "departures"]].drop_duplicates()
    return [f"{method}: {text.replace('.; ', '. ')}" for method, text in known.itertuples(index=False)]


def unfinished(results: Results) -> str:
    """Return a sentence on planned evaluations without a result; empty if there are none."""
    count = len(results.pending)
    return f"{count} planned {'evaluation has' if count == 1 else 'evaluations have'} no result yet." if count else ""

"""The sentences around a table: its data, how it was made, and what it shows or cannot show. Loads no torch."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ssl3d.evaluate.statistics.measures import MEASURES
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
_LETTERS = (
    "Methods that share a letter cannot be separated at 5%, corrected (Holm) for all pairs of one protocol in this "
    "table."
)
_PRIMARY = "The {} rows are the primary comparison of this run, fixed by its first request; others are exploratory."
_EXPLORATORY = "This table is exploratory: the primary comparison of the run is in another one."
_NO_PATIENTS = "Patients are unknown in this data set: every volume is taken for one, so intervals may be too narrow."


def by_table(leaderboard: pd.DataFrame, comparisons: pd.DataFrame) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Return the rows of both tables for each data set, task and plane, in the order of the leaderboard.

    Comparisons by other metrics than the one that decides ranks are left out.
    """
    comparisons = comparisons[comparisons["primary"]]
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


def remarks(leaderboard: pd.DataFrame, *, primary: bool = True) -> str:
    """Return how one table was made: tuning, means over tasks and folds, planes combined, labels seen, patients.

    With ``primary`` also which comparison is the primary one.
    """
    found = [text] if (text := tuned_of(leaderboard)) else []
    known = leaderboard[leaderboard["score"].notna()]
    if not known.empty:
        row = known.iloc[0]
        several = "tasks" if str(row["task"]).startswith(MEAN) else "labels" if row["kind"] == "multilabel" else ""
        found += [_SEVERAL.format(what=several)] if several else []
        found += [_PLANES] if PLUS in str(row["plane"]) else []
        found += [_FOLDS] if pd.notna(row["folds"]) else []
        if (known["seeds"] == 1).any():
            found += [_ONE_SEED if (known["seeds"] == 1).all() else _SOME_ONE_SEED]
    found += [_primary(leaderboard)] if primary else []
    found += [_LABELS_USED] if leaderboard["labels_used"].fillna(False).any() else []
    found += [_NO_PATIENTS] if (~leaderboard["patients_known"].fillna(True)).any() else []
    return " ".join(filter(None, found))


def _primary(leaderboard: pd.DataFrame) -> str:
    """Return whether a table holds the primary comparison of the run; empty if the run has none."""
    if leaderboard["primary"].isna().all():
        return ""
    protocols = list(leaderboard["protocol"][leaderboard["primary"].fillna(False)])
    return _PRIMARY.format(protocols[0]) if protocols else _EXPLORATORY


def conclusion(comparisons: pd.DataFrame) -> str:
    """Return what the test set could and could not show, by protocol; empty if there are no pairs.

    Args:
        comparisons: of one table, by the metric that decides ranks.
    """
    sentences = [_shown_by(str(protocol), pairs) for protocol, pairs in comparisons.groupby("protocol", sort=False)]
    return " ".join([_LETTERS, *sentences]) if sentences else ""


def _shown_by(protocol: str, pairs: pd.DataFrame) -> str:
    """Return how many pairs are separated, and what true differences would have been found or missed."""
    tied = int((pairs["verdict"] == "cannot be separated").sum())
    many = f"{tied} of {len(pairs)} pairs" if len(pairs) > 1 else "the only pair" if tied else "0 of 1 pairs"
    found = f"{protocol}: {many} cannot be separated."
    missed, detected = pairs["missed_below"].dropna(), pairs["smallest_detectable"].dropna()
    score = MEASURES[str(pairs["metric"].iloc[0])].title
    if not missed.empty:
        found += f" A true difference in {score} smaller than about {_range(missed)} would probably have been missed"
        found += f"; one of {_range(detected)} would be found in 8 of 10 such studies." if len(detected) else "."
    hopeless = len(pairs) - len(missed)
    if hopeless and (pairs["ci_low"] < pairs["ci_high"]).any():
        found += f" In {hopeless} of the pairs no difference, however large, would probably have been found."
    return found


def _range(values: pd.Series) -> str:
    """Return the smallest and largest value with two digits: "0.05 to 0.12 (by pair)"."""
    low, high = (f"{float(f'{value:.2g}'):g}" for value in (values.min(), values.max()))  # 120, not 1.2e+02
    return low if low == high else f"{low} to {high} (by pair)"


def versus(leaderboard: pd.DataFrame) -> str:
    """Return what the columns of a named baseline contain; empty if there is none."""
    if "baseline" not in leaderboard or leaderboard.empty:
        return ""
    name = leaderboard["baseline"].iloc[0]
    return (
        f"Difference: the score minus that of {name}, with its 95% interval; p is corrected (Holm) for the "
        "comparisons with it alone."
    )


def departures(leaderboard: pd.DataFrame) -> list[str]:
    """Return one text per method and backbone that departs from its paper: "byol: ...", "tiny: ..."."""
    found: dict[str, dict[str, None]] = {}
    known = leaderboard[leaderboard["departures"].notna()][["method", "backbone", "departures"]].drop_duplicates()
    for method, backbone, text in known.itertuples(index=False):
        for sentence in text.removesuffix(".").split(".; "):
            own = sentence.removeprefix(f"{backbone}: ")
            found.setdefault(method if own == sentence else backbone, {})[own] = None
    return [f"{name}: {'. '.join(sentences)}." for name, sentences in found.items()]


def unfinished(results: Results) -> str:
    """Return a sentence on planned evaluations without a result; empty if there are none."""
    count = len(results.pending)
    return f"{count} planned {'evaluation has' if count == 1 else 'evaluations have'} no result yet." if count else ""

"""The scores of an evaluation, recomputed from its predictions. Loads scikit-learn, not torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ssl3d.audit.verdict import Findings
from ssl3d.errors import UserError
from ssl3d.protocol import Prediction
from ssl3d.results.folder import PREDICTIONS, RECORDS, TRAINING
from ssl3d.results.model import EvaluationRecord, Score
from ssl3d.results.predictions import parse_predictions, probabilities_of, targets_of
from ssl3d.results.records import read_bytes
from ssl3d.results.scoring import score

COMPUTED = {
    "metrics",
    "reasons",
    "metric",
    "interval",
}  # fields of a score that are computed from predictions and threshold
FILE = RECORDS[EvaluationRecord]


def check_predictions(folder: Path, record: EvaluationRecord, found: Findings) -> None:
    """Check an evaluation's predictions: their number, their cases, their score, and that no case was trained on."""
    tables = {name: _table(folder / name, found) for name in (PREDICTIONS, TRAINING) if name in record.files}
    tested, trained = tables.get(PREDICTIONS), tables.get(TRAINING)
    if tested is None:
        return
    patients = tested["patient"].nunique() if record.data.patients_known else len(tested)
    counts = [record.data.n_test, record.data.n_test_patients, record.data.task.outputs]
    found.compare(FILE, "data.n_test, n_test_patients, outputs", counts, [len(tested), patients, _width(tested)])
    _check_score(record, tested, folder / PREDICTIONS, found)
    if trained is not None:
        found.compare(FILE, "n_labels", record.n_labels, len(trained))
        if record.n_positive is not None and "label" in trained:
            found.compare(FILE, "n_positive", record.n_positive, int((trained["label"] == 1).sum()))
        both = sorted(set(tested["patient"]) & set(trained["patient"]))
        if both:
            found.faults.append(f"{folder / TRAINING} and {PREDICTIONS} share patient {both[0]!r}: the test set leaks")


def _table(path: Path, found: Findings) -> pd.DataFrame | None:
    """Return a table of predictions if it can be read, whatever its hash."""
    data = found.attempt(read_bytes, path)
    table = None if data is None else found.attempt(parse_predictions, data, str(path))
    if table is not None and table["case"].duplicated().any():
        twice = table["case"][table["case"].duplicated()].iloc[0]
        found.faults.append(f"{path} holds case {twice!r} more than once")
    return table


def _width(table: pd.DataFrame) -> int:
    return sum(str(name).startswith("p_") for name in table)


def _check_score(record: EvaluationRecord, table: pd.DataFrame, path: Path, found: Findings) -> None:
    try:
        prediction = Prediction(probabilities_of(table), record.score.threshold, record.score.chosen)
        made = score(prediction, targets_of(table), record.data.task, table["patient"].to_numpy())
    except (UserError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        found.faults.append(f"{path} cannot be scored ({reason})")
        return
    found.compare(FILE, "score", _computed(record.score), _computed(made))


def _computed(one: Score) -> dict[str, Any]:
    return one.model_dump(mode="json", include=COMPUTED)

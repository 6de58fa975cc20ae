"""predictions.csv and training.csv: one row per case, the source of all scores. Loads no torch."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ssl3d.results.records import AGAIN, DamagedError
from ssl3d.task import Task

FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")  # how a text begins that a spreadsheet may run
TEXTS = ("case", "patient")  # columns that stay text: a case may be called "NA" or 0012


def predictions_frame(
    cases: Sequence[str], patients: Sequence[str], targets: np.ndarray, probabilities: np.ndarray, task: Task
) -> pd.DataFrame:
    """Return the table of predictions: case, patient, label (one per label of a multi-label task), p_0 .. p_{K-1}.

    Args:
        cases: N ids, as the data set spells them.
        patients: N ids.
        targets: (N,) class indices or values; (N, L) of a multi-label task.
        probabilities: (N, K).
        task: task of the predictions.
    """
    columns: dict[str, object] = {"case": list(cases), "patient": list(patients)}
    if task.kind == "multilabel":
        columns |= {f"label_{index}": targets[:, index] for index in range(targets.shape[1])}
    else:
        columns["label"] = np.asarray(targets)
    columns |= {f"p_{k}": np.asarray(probabilities[:, k], np.float64) for k in range(probabilities.shape[1])}
    return pd.DataFrame(columns).astype(dict.fromkeys(TEXTS, "str"))


def to_csv(table: pd.DataFrame) -> str:
    """Return a table as CSV; floats are written so that reading restores them exactly.

    A spreadsheet would interpret some texts as formulas (``=HYPERLINK(...)`` as the id of a case). They are prefixed
    with an apostrophe, which :func:`unguarded` removes. This includes plain ids such as ``-12``, but not columns of
    numbers.
    """
    texts = [name for name, column in table.items() if column.dtype in ("object", "str")]
    safe = table.assign(**{str(name): table[name].map(_guarded, na_action="ignore") for name in texts})
    text = safe.to_csv(index=False, lineterminator="\n")
    # With CRLF line ends, a lone carriage return is quoted; without quotes it would begin a row.
    return safe.to_csv(index=False, lineterminator="\r\n") if "\r" in text else text


def unguarded(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table read from the CSV of :func:`to_csv` with the original texts."""
    texts = [name for name, column in table.items() if column.dtype == "str"]
    restored = {str(name): table[name].map(_restored, na_action="ignore").astype("str") for name in texts}
    return table.assign(**restored)


def _guarded(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def _restored(text: str) -> str:
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def parse_predictions(data: bytes, where: str) -> pd.DataFrame:
    """Parse the bytes of a file as the table of :func:`predictions_frame`.

    Raises:
        DamagedError: they are not such a table; the message names ``where``.
    """
    try:
        table = pd.read_csv(io.BytesIO(data), dtype=dict.fromkeys(TEXTS, "str"), keep_default_na=False)
    except ValueError as error:
        raise DamagedError(f"{where} is not a table of predictions ({str(error).splitlines()[0]}); {AGAIN}") from None
    missing = {"case", "patient", "p_0"} - set(table.columns)
    if missing:
        raise DamagedError(f"{where} has no column {min(missing)!r}; {AGAIN}")
    return unguarded(table)


def probabilities_of(table: pd.DataFrame) -> np.ndarray:
    """Return the probabilities (N, K) of a table of predictions."""
    return table[[name for name in table.columns if name.startswith("p_")]].to_numpy(np.float64)


def targets_of(table: pd.DataFrame) -> np.ndarray:
    """Return the targets of a table of predictions: (N,), or (N, L) of a multi-label task."""
    if "label" in table:
        return table["label"].to_numpy()
    return table[[name for name in table.columns if name.startswith("label_")]].to_numpy(np.int64)

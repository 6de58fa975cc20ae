"""What a cell leaves: result.json, the truth, and predictions.csv, a row a protocol, condition and test case. No torch.

result.json is the JSON of :class:`ssl3d.results.model.ResultFile`: a :class:`CellResult` with the hashes of the encoder,
of predictions.csv, and of everything else in result.json. So an edited or truncated file is found and named. Its JSON
Schema is published in :mod:`ssl3d.results.schema`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from ssl3d.errors import RunError
from ssl3d.results.files import write_atomic
from ssl3d.results.model import (
    SCHEMA_VERSION,
    CellResult,
    Collapse,
    CurvePoint,
    DataRecord,
    Exactness,
    Price,
    ProtocolScore,
)
from ssl3d.results.older import upgraded

__all__ = [
    "SCHEMA_VERSION",
    "CellResult",
    "Collapse",
    "CurvePoint",
    "DataRecord",
    "Exactness",
    "Price",
    "ProtocolScore",
    "check_content",
    "check_predictions",
    "file_hash",
    "parse_predictions",
    "parse_result",
    "predictions_frame",
    "read_bytes",
    "read_content",
    "read_result",
    "read_results",
    "read_training",
    "write_result",
]
RESULT, PREDICTIONS, ENCODER = "result.json", "predictions.csv", "encoder.safetensors"
TRAINING = "training.csv"  # out-of-fold predictions of the training cases, in the form of predictions.csv
HASHES = ("encoder_sha256", "predictions_sha256", "training_sha256", "content_sha256")
_TEXTS = ("protocol", "condition", "case")  # columns of predictions.csv


def predictions_frame(
    case_ids: Sequence[str], labels: np.ndarray, probabilities: Mapping[str, np.ndarray], condition: str = ""
) -> pd.DataFrame:
    """Return the table of predictions: protocol, condition, case, label, p_0 .. p_{K-1}.

    Args:
        case_ids: N_test ids, as the data set spells them.
        labels: (N_test,).
        probabilities: (N_test, K) by protocol.
        condition: part of the training labels that was used, "labels=0.1 draw=2"; "" for all of them.
    """
    parts = []
    for protocol, p in probabilities.items():
        values = {"protocol": protocol, "condition": condition, "case": list(case_ids)}
        part = pd.DataFrame({**values, "label": np.asarray(labels, np.int64)})
        parts.append(part.join(pd.DataFrame(np.asarray(p, np.float64), columns=[f"p_{k}" for k in range(p.shape[1])])))
    return pd.concat(parts, ignore_index=True).astype(dict.fromkeys(_TEXTS, "str"))


def write_result(
    folder: Path, result: CellResult, predictions: pd.DataFrame | None, training: pd.DataFrame | None = None
) -> None:
    """Write predictions.csv, training.csv, then result.json, each atomically: with a result.json a cell is finished.

    Raises:
        RunError: the folder cannot be written.
    """
    predictions_sha256 = _write_table(folder / PREDICTIONS, predictions)
    training_sha256 = _write_table(folder / TRAINING, training)
    encoder = folder / ENCODER
    content = result.model_dump(mode="json")
    content["encoder_sha256"] = file_hash(encoder) if encoder.is_file() else None
    content |= {"predictions_sha256": predictions_sha256, "training_sha256": training_sha256}
    content["content_sha256"] = _content_hash(content)
    write_atomic(folder / RESULT, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _write_table(path: Path, table: pd.DataFrame | None) -> str | None:
    """Write a table and return its hash; without one, remove what is there."""
    if table is None:
        path.unlink(missing_ok=True)
        return None
    text = table.to_csv(index=False, lineterminator="\n")
    write_atomic(path, text)
    return _sha256(text.encode())


def read_training(folder: Path) -> pd.DataFrame | None:
    """Return a cell's out-of-fold predictions of the training cases, checked against their hash; None without any.

    Raises:
        RunError: a file is absent, damaged or edited; names the file.
    """
    expected = read_content(folder).get("training_sha256")
    if expected is None:
        return None
    data = read_bytes(folder / TRAINING)
    if _sha256(data) != expected:
        raise RunError(f"{folder / TRAINING} was changed after it was written (its hash differs); run the cell again")
    return parse_predictions(folder, data)


def read_result(folder: Path) -> tuple[CellResult, pd.DataFrame | None]:
    """Return a cell's result and predictions, checked against their hashes. Older versions are brought up to this one.

    Raises:
        RunError: a file is absent, damaged, edited, or of an unknown schema version; names the file.
    """
    content = read_content(folder)
    check_content(folder, content)
    result = parse_result(folder, content)
    if content.get("predictions_sha256") is None:
        return result, None
    data = read_bytes(folder / PREDICTIONS)
    check_predictions(folder, content, data)
    return result, parse_predictions(folder, data)


def read_content(folder: Path) -> dict[str, Any]:
    """Return result.json as it was written, in the version it was written in.

    Raises:
        RunError: it is absent, damaged, or of an unknown schema version.
    """
    path = folder / RESULT
    content = _json(path)
    version = content.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise RunError(
            f"{path} was written by a newer ssl3d (schema version {version}, this ssl3d reads 1 to {SCHEMA_VERSION}); "
            "update ssl3d"
        )
    if version not in range(1, SCHEMA_VERSION + 1):
        raise RunError(
            f"{path} has schema version {version!r}, this ssl3d reads 1 to {SCHEMA_VERSION}; run the cell again"
        )
    return content


def check_content(folder: Path, content: Mapping[str, Any]) -> None:
    """Raise RunError if the content of result.json is not what was written."""
    hashed = {name: value for name, value in content.items() if name != "content_sha256"}
    if _content_hash(hashed) != content.get("content_sha256"):
        raise RunError(
            f"{folder / RESULT} was changed after it was written (its content hash differs); run the cell again"
        )


def check_predictions(folder: Path, content: Mapping[str, Any], data: bytes) -> None:
    """Raise RunError if the bytes of predictions.csv are not those that the content of result.json names."""
    if _sha256(data) != content.get("predictions_sha256"):
        raise RunError(
            f"{folder / PREDICTIONS} was changed after it was written (its hash differs); run the cell again"
        )


def parse_result(folder: Path, content: Mapping[str, Any]) -> CellResult:
    """Return the content of result.json, of any known version, as a result.

    Raises:
        RunError: it does not keep to its schema; names the field.
    """
    try:
        values = {name: value for name, value in upgraded(content).items() if name not in HASHES}
        return CellResult.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise RunError(f"{folder / RESULT}: {field}: {first['msg'].lower()}; run the cell again") from error


def parse_predictions(folder: Path, data: bytes) -> pd.DataFrame:
    """Return the bytes of predictions.csv as the table of :func:`predictions_frame`.

    Raises:
        RunError: they are no such table.
    """
    try:
        table = pd.read_csv(
            io.BytesIO(data),
            dtype={**dict.fromkeys(_TEXTS, "str"), "label": "int64"},
            keep_default_na=False,  # a case may be called "NA"
        )
    except ValueError as error:
        raise RunError(
            f"{folder / PREDICTIONS} is damaged ({str(error).splitlines()[0]}); run the cell again"
        ) from None
    if "condition" not in table:  # written before there were conditions: all labels
        table.insert(1, "condition", pd.Series("", index=table.index, dtype="str"))
    return table


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes; raises RunError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}); run the cell again") from error


def read_results(cells: Path) -> list[tuple[CellResult, pd.DataFrame | None]]:
    """Return the results of every finished cell below a folder of cells, in the order of their names."""
    return [read_result(path.parent) for path in sorted(cells.glob(f"*/{RESULT}"))]


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bytes(path))
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); delete it and run the cell again") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} is damaged (not a JSON object); delete it and run the cell again")
    return content


def _content_hash(content: dict[str, Any]) -> str:
    return _sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

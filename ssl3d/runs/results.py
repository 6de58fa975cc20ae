"""What a cell leaves: result.json, the truth, and predictions.csv, a row a protocol, condition and test case. No torch.

result.json is the JSON of :class:`ssl3d.runs.model.ResultFile`: a :class:`CellResult` with the hashes of the encoder,
of predictions.csv, and of everything else in result.json. So an edited or truncated file is found and named. Its JSON
Schema is published in :mod:`ssl3d.runs.schema`.
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
from ssl3d.runs.files import write_atomic
from ssl3d.runs.model import (
    SCHEMA_VERSION,
    CellResult,
    Collapse,
    CurvePoint,
    DataRecord,
    Exactness,
    Price,
    ProtocolScore,
)
from ssl3d.runs.older import upgraded

__all__ = [
    "SCHEMA_VERSION",
    "CellResult",
    "Collapse",
    "CurvePoint",
    "DataRecord",
    "Exactness",
    "Price",
    "ProtocolScore",
    "predictions_frame",
    "read_content",
    "read_result",
    "read_results",
    "write_result",
]
RESULT, PREDICTIONS, ENCODER = "result.json", "predictions.csv", "encoder.safetensors"
HASHES = ("encoder_sha256", "predictions_sha256", "content_sha256")
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


def write_result(folder: Path, result: CellResult, predictions: pd.DataFrame | None) -> None:
    """Write predictions.csv, then result.json, each atomically: a cell with a result.json is finished.

    Raises:
        RunError: the folder cannot be written.
    """
    text = None if predictions is None else predictions.to_csv(index=False, lineterminator="\n")
    if text is None:
        (folder / PREDICTIONS).unlink(missing_ok=True)
    else:
        write_atomic(folder / PREDICTIONS, text)
    encoder = folder / ENCODER
    content = result.model_dump(mode="json")
    content["encoder_sha256"] = _file_hash(encoder) if encoder.is_file() else None
    content["predictions_sha256"] = None if text is None else _sha256(text.encode())
    content["content_sha256"] = _content_hash(content)
    write_atomic(folder / RESULT, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_result(folder: Path) -> tuple[CellResult, pd.DataFrame | None]:
    """Return a cell's result and predictions, checked against their hashes. Older versions are brought up to this one.

    Raises:
        RunError: a file is absent, damaged, edited, or of an unknown schema version; names the file.
    """
    path = folder / RESULT
    content = read_content(folder)
    table_hash = content.get("predictions_sha256")
    try:
        values = {name: value for name, value in upgraded(content).items() if name not in HASHES}
        result = CellResult.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise RunError(f"{path}: {field}: {first['msg'].lower()}; run the cell again") from error
    return result, None if table_hash is None else _read_predictions(folder / PREDICTIONS, table_hash)


def read_content(folder: Path) -> dict[str, Any]:
    """Return result.json as it was written, in the version it was written in, checked against its hash.

    Raises:
        RunError: it is absent, damaged, edited, or of an unknown schema version.
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
    hashed = {name: value for name, value in content.items() if name != "content_sha256"}
    if _content_hash(hashed) != content.get("content_sha256"):
        raise RunError(f"{path} was changed after it was written (its content hash differs); run the cell again")
    return content


def read_results(cells: Path) -> list[tuple[CellResult, pd.DataFrame | None]]:
    """Return the results of every finished cell below a folder of cells, in the order of their names."""
    return [read_result(path.parent) for path in sorted(cells.glob(f"*/{RESULT}"))]


def _read_predictions(path: Path, expected: str) -> pd.DataFrame:
    data = _bytes(path)
    if _sha256(data) != expected:
        raise RunError(f"{path} was changed after it was written (its hash differs); run the cell again")
    table = pd.read_csv(
        io.BytesIO(data),
        dtype={**dict.fromkeys(_TEXTS, "str"), "label": "int64"},
        keep_default_na=False,  # a case may be called "NA"
    )
    if "condition" not in table:  # written before there were conditions: all labels
        table.insert(1, "condition", pd.Series("", index=table.index, dtype="str"))
    return table


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_bytes(path))
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); delete it and run the cell again") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} is damaged (not a JSON object); delete it and run the cell again")
    return content


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}); run the cell again") from error


def _content_hash(content: dict[str, Any]) -> str:
    return _sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

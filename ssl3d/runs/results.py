"""What a cell leaves: result.json, the truth, and predictions.csv, a row a protocol, condition and test case. No torch.

result.json is the JSON of :class:`CellResult` with two more fields: ``predictions_sha256`` of the bytes of
predictions.csv (null for a failed cell) and ``content_sha256`` of everything else in result.json. So an edited or
truncated file is found and named.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ssl3d.engine import Engine
from ssl3d.errors import RunError
from ssl3d.recipe import Recipe
from ssl3d.runs.files import write_atomic

SCHEMA_VERSION = 2
RESULT, PREDICTIONS = "result.json", "predictions.csv"
Exactness = Literal["exact", "exact but for backbone batch norm", "plain", "not trained"]
_TEXTS = ("protocol", "condition", "case")  # columns of predictions.csv
Count = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    """Frozen, closed, and finite: what is not known is None, never NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataRecord(_Record):
    """The data that a cell was trained and judged on."""

    name: str
    synthetic: bool
    fingerprint: str
    task: str
    plane: str
    n_train: Count
    n_test: Count
    classes: Annotated[int, Field(ge=2)]


class ProtocolScore(_Record):
    """How the encoder did under one protocol, on the test cases.

    ``metrics`` are those of :mod:`ssl3d.evaluate.metrics`; ``reasons`` say why some are None. ``auc_interval`` is
    DeLong's at 95%, None for more than two classes or without an AUC.
    """

    metrics: dict[str, float | None]
    reasons: dict[str, str] = {}
    auc_interval: tuple[float, float] | None = None
    threshold: float | None = None
    chosen: dict[str, Any] = {}
    seconds: float | None = None


class Collapse(_Record):
    """Measures of collapse of the features, and the verdict."""

    feature_std: float | None = None
    rankme: float | None = None
    collapsed: bool | None = None


class Price(_Record):
    """What the cell cost, and on what."""

    pretrain_seconds: float | None = None
    volumes_per_second: float | None = None
    peak_memory_bytes: Count | None = None
    flops: float | None = None
    device: str | None = None


class CurvePoint(_Record):
    """How the encoder did under one protocol with a part of the training labels.

    ``condition`` is its name in predictions.csv. ``labels`` is the share of the training labels, ``positives`` the
    share of positives among them where that was set, ``n_train`` and ``n_positive`` what these came to.
    """

    condition: Annotated[str, Field(min_length=1)]
    protocol: str
    labels: float
    positives: float | None = None
    draw: Count
    n_train: Count
    n_positive: Count | None = None
    score: ProtocolScore


class CellResult(_Record):
    """One cell: method x backbone x seed on one data set, finished or failed.

    ``engine`` is how it was pretrained, None if it was not. ``encoder_from`` names the cell whose encoder was judged
    again, if it was not pretrained here. ``features`` names the file of cached features, below the run's ``features``.
    """

    schema_version: Literal[2] = 2
    cell: str
    status: Literal["done", "failed"]
    reason: str | None = None
    recipe: Recipe
    data: DataRecord | None = None
    exactness: Exactness | None = None
    departures: tuple[str, ...] = ()
    scores: dict[str, ProtocolScore] = {}
    curve: tuple[CurvePoint, ...] = ()
    engine: Engine | None = None
    encoder_from: str | None = None
    features: str | None = None
    collapse: Collapse = Collapse()
    price: Price = Price()
    versions: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    finished_at: str

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.status == "failed" and not self.reason:
            raise ValueError("a failed cell needs its reason")
        if self.status == "done" and (self.data is None or self.exactness is None or not self.scores):
            raise ValueError("a cell that is done needs data, exactness and scores")
        return self


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
    content = result.model_dump(mode="json")
    content["predictions_sha256"] = None if text is None else _sha256(text.encode())
    content["content_sha256"] = _content_hash(content)
    write_atomic(folder / RESULT, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_result(folder: Path) -> tuple[CellResult, pd.DataFrame | None]:
    """Return a cell's result and predictions, checked against their hashes.

    Raises:
        RunError: a file is absent, damaged, edited, or of an unknown schema version; names the file.
    """
    path = folder / RESULT
    content = _json(path)
    version = content.get("schema_version")
    if version not in range(1, SCHEMA_VERSION + 1):
        raise RunError(
            f"{path} has schema version {version!r}, this ssl3d reads 1 to {SCHEMA_VERSION}; run the cell again"
        )
    expected, table_hash = content.pop("content_sha256", None), content.get("predictions_sha256")
    if _content_hash(content) != expected:
        raise RunError(f"{path} was changed after it was written (its content hash differs); run the cell again")
    content.pop("predictions_sha256", None)
    if version == 1:
        content = _from_version_1(content)
    try:
        result = CellResult.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise RunError(f"{path}: {field}: {first['msg'].lower()}; run the cell again") from error
    return result, None if table_hash is None else _read_predictions(folder / PREDICTIONS, table_hash)


def _from_version_1(content: dict[str, Any]) -> dict[str, Any]:
    """Fields of version 2 for a result of version 1, which had one name for the inner folds and no curves."""
    recipe = content.get("recipe")
    evaluate = recipe.get("evaluate") if isinstance(recipe, dict) else None
    if isinstance(evaluate, dict) and "folds" in evaluate:
        # One view of each test volume, and one learning rate: what version 1 did.
        evaluate = {"finetune_crops": 1, **evaluate, "inner_folds": evaluate["folds"]}
        evaluate.pop("folds")
        content = {**content, "recipe": {**content["recipe"], "evaluate": evaluate}}
    return {**content, "schema_version": 2}


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

"""The model of result.json, from which its published schema is made. Loads no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ssl3d.engine import Engine
from ssl3d.recipe import Recipe

SCHEMA_VERSION = 2
Exactness = Literal["exact", "exact but for backbone batch norm", "plain", "not trained"]
Count = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    """Frozen, closed, and finite: what is not known is None, never NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataRecord(_Record):
    """The data that a cell was trained and judged on."""

    name: str = Field(description="data set, with its variant")
    synthetic: bool = Field(description="whether the volumes are generated")
    fingerprint: str = Field(description="of the bytes of all volumes and of their labels and splits")
    task: str = Field(description="label that is predicted")
    plane: str = Field(description="plane of the exam; empty if the data set has none")
    n_train: Count = Field(description="training volumes with a label of the task")
    n_test: Count = Field(description="test volumes with a label of the task")
    classes: Annotated[int, Field(ge=2)] = Field(description="K, number of classes")


class ProtocolScore(_Record):
    """How the encoder did under one protocol, on the test cases."""

    metrics: dict[str, float | None] = Field(description="by name; null where one is undefined, see reasons")
    reasons: dict[str, str] = Field({}, description="why a metric is null, by its name")
    auc_interval: tuple[float, float] | None = Field(
        None, description="DeLong's at 95%; null for more than two classes or without an AUC"
    )
    threshold: float | None = Field(
        None, description="of the probability of class 1, chosen on training data; null for more than two classes"
    )
    chosen: dict[str, Any] = Field({}, description="what the protocol chose inside the training data")
    seconds: float | None = Field(None, description="time that the protocol took")


class Collapse(_Record):
    """Measures of collapse of the features, and the verdict."""

    feature_std: float | None = Field(
        None, description="deviation of the normalised features, times sqrt(F); near 0: collapsed"
    )
    rankme: float | None = Field(None, description="effective rank of the features (RankMe)")
    collapsed: bool | None = Field(None, description="verdict; null if the cell was not trained")


class Price(_Record):
    """What the cell cost, and on what."""

    pretrain_seconds: float | None = Field(None, description="time of pretraining")
    volumes_per_second: float | None = Field(None, description="training volumes a second, over all epochs")
    peak_memory_bytes: Count | None = Field(None, description="peak memory on the device; null where not measured")
    flops: float | None = Field(None, description="floating-point operations of pretraining")
    device: str | None = Field(None, description="hardware")


class CurvePoint(_Record):
    """How the encoder did under one protocol with a part of the training labels."""

    condition: Annotated[str, Field(min_length=1)] = Field(description="its name in predictions.csv")
    protocol: str = Field(description="linear, knn or finetune")
    labels: float = Field(description="share of the training labels")
    positives: float | None = Field(None, description="share of positives among them, where that was set")
    draw: Count = Field(description="which draw of the labels")
    n_train: Count = Field(description="number of labels that these shares came to")
    n_positive: Count | None = Field(None, description="number of positives among them")
    score: ProtocolScore = Field(description="on the test cases")


class CellResult(_Record):
    """One cell: method x backbone x seed on one data set, finished or failed."""

    schema_version: Literal[2] = Field(2, description="of this file")
    cell: str = Field(description="name of the cell and of its folder: METHOD-BACKBONE-sSEED-HASH")
    status: Literal["done", "failed"] = Field(description="failed: the reason says why, and there are no scores")
    reason: str | None = Field(None, description="why the cell failed")
    recipe: Recipe = Field(description="all that decides the cell's numbers; HASH is of its canonical JSON")
    data: DataRecord | None = Field(None, description="null if the cell failed")
    exactness: Exactness | None = Field(None, description="what accumulation did to the gradient")
    departures: tuple[str, ...] = Field((), description="what this implementation does differently from the paper")
    scores: dict[str, ProtocolScore] = Field({}, description="by protocol, with all training labels")
    curve: tuple[CurvePoint, ...] = Field((), description="scores with parts of the training labels")
    engine: Engine | None = Field(None, description="how it was pretrained; null if it was not")
    encoder_from: str | None = Field(
        None, description="cell whose encoder was judged again; null if it was pretrained here"
    )
    features: str | None = Field(None, description="file of cached features, below the run's folder of features")
    collapse: Collapse = Field(Collapse(), description="of the features, at the end of pretraining")
    price: Price = Field(Price(), description="time, memory, arithmetic, hardware")
    versions: dict[str, str] = Field({}, description="of Python and of the packages that decide numbers")
    notes: tuple[str, ...] = Field((), description="what happened otherwise than the recipe alone says")
    finished_at: str = Field(description="time, ISO 8601 in UTC")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.status == "failed" and not self.reason:
            raise ValueError("a failed cell needs its reason")
        if self.status == "done" and (self.data is None or self.exactness is None or not self.scores):
            raise ValueError("a cell that is done needs data, exactness and scores")
        return self


class ResultFile(CellResult):
    """The result of one cell of an ssl3d run, as result.json holds it."""

    encoder_sha256: str | None = Field(None, description="of encoder.safetensors; null if the cell left none")
    predictions_sha256: str | None = Field(description="of predictions.csv; null for a failed cell")
    training_sha256: str | None = Field(None, description="of training.csv; null without out-of-fold predictions")
    content_sha256: str = Field(
        description="of everything else in this file, as ASCII JSON with sorted keys and no white space"
    )

"""The records of artifacts, from which the published schemas are generated. Loads no torch.

An artifact is a folder with one JSON record, which is written last and atomically: it marks the artifact as complete.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ssl3d.engine import Engine
from ssl3d.recipe import EncoderRecipe, EvaluationRecipe, RateRecipe, digest
from ssl3d.task import Task

SCHEMA_VERSION = 1
Exactness = Literal["exact", "exact up to random layers", "not exact", "plain", "not trained"]
Kind = Literal["encoder", "features", "rate", "evaluation"]  # of an artifact
Count = Annotated[int, Field(ge=0)]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]+$")]


def _inside(name: str) -> str:
    """Check that a name stays inside the folder that it is joined to."""
    if name.startswith("/") or not {"", ".", ".."}.isdisjoint(name.split("/")) or "\0" in name:
        raise ValueError(f"{name!r} leads out of the run's folder")
    return name


Name = Annotated[str, AfterValidator(_inside)]  # of a folder or file below another one


class Record(BaseModel):
    """Frozen, closed, and finite: unknown values are None, never NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CorpusRecord(Record):
    """The volumes that an encoder was pretrained on."""

    name: str = Field(description="data sets, with variant and plane, joined by ' + '")
    synthetic: bool = Field(description="whether any of the volumes are generated")
    fingerprint: Hex = Field(description="hash of the bytes of these volumes in their order")
    volumes: Count = Field(description="volumes pretrained on")
    excluded: Count = Field(0, description="volumes left out because their patient, or their bytes, are tested on")


class Collapse(Record):
    """Measures of the collapse of features, and the verdict."""

    feature_std: float | None = Field(
        None, description="deviation of the normalised features, times sqrt(F); near 0: collapsed"
    )
    rankme: float | None = Field(None, description="effective rank of the features (RankMe)")
    collapsed: bool | None = Field(None, description="verdict; null if the encoder was not trained")


class Price(Record):
    """The cost and hardware of a pretraining."""

    pretrain_seconds: float | None = Field(None, description="time of pretraining")
    volumes_per_second: float | None = Field(None, description="training volumes per second, over all epochs")
    peak_memory_bytes: Count | None = Field(None, description="peak memory on the device; null where not measured")
    flops: float | None = Field(None, description="floating-point operations of pretraining")
    device: str | None = Field(None, description="hardware")
    tuning_seconds: float | None = Field(
        None, description="time of the trials and probes that chose the learning rate, once for all seeds"
    )
    tuning_flops: float | None = Field(None, description="floating-point operations of pretraining these trials")


class Provenance(Record):
    """The software that made an artifact, and the time."""

    numerics: int = Field(description="version of the core's arithmetic; part of every key")
    sources: dict[str, Hex] = Field({}, description="hashes of the sources of the plugins that ran, by role")
    versions: dict[str, str] = Field({}, description="of Python and of the packages that decide numbers")
    finished_at: str = Field(description="time, ISO 8601 in UTC")


class ArtifactRecord(Record):
    """The fields of every record."""

    schema_version: Literal[1] = Field(1, description="of this file")
    key: Hex = Field(description="hash of what decides the artifact and nothing else")
    name: Name = Field(description="of the artifact's folder, which ends in the first digits of the key")
    made_by: Provenance
    files: dict[Name, Hex] = Field({}, description="SHA-256 of the artifact's other files, by name")
    notes: tuple[str, ...] = Field((), description="what happened otherwise than the recipe alone says")


class ChosenRate(Record):
    """The learning rate that an encoder was pretrained with, where it was chosen by trials."""

    key: Hex = Field(description="of the choice: rate.json")
    factor: float = Field(gt=0, description="of the recipe's rate")
    lr: float = Field(gt=0, description="base learning rate, in place of the recipe's")


class EncoderRecord(ArtifactRecord):
    """A backbone after pretraining, or as published (encoder.json)."""

    kind: Literal["encoder"] = "encoder"
    recipe: EncoderRecipe
    corpus: CorpusRecord | None = Field(None, description="null if the encoder was not trained")
    weights: str | None = Field(None, description="pretrained weights it started from, and the share that matched")
    weights_sha256: Hex | None = Field(None, description="hash of these weights, as it is in the key")
    weights_input: str | None = Field(None, description="input that these weights were published for, in words")
    rate: ChosenRate | None = Field(None, description="null if the learning rate is the recipe's")
    labels_used: bool = Field(False, description="whether the method saw labels of the training volumes")
    exactness: Exactness = Field(description="what accumulation did to the gradient, as measured before training")
    gradient_error: float | None = Field(
        None, description="relative error of the accumulated gradient against the whole batch's; null if not split"
    )
    departures: tuple[str, ...] = Field((), description="what this implementation does differently from the paper")
    resolved: dict[str, float] = Field(
        {}, description="settings that follow the length of the training, as numbers where the recipe says auto"
    )
    engine: Engine | None = Field(None, description="how it was pretrained; null if it was not")
    collapse: Collapse = Field(Collapse(), description="of the features, at the end of pretraining")
    price: Price = Field(Price(), description="time, memory, arithmetic, hardware")

    @property
    def lr(self) -> float | None:
        """Base learning rate that it was pretrained with; None if it was not trained."""
        if self.rate is not None:
            return self.rate.lr
        return self.recipe.pretrain.lr if self.recipe.pretrain else None

    @property
    def settings(self) -> str:
        """Hash of everything that decides the encoder except seed, fold and task: encoders of one row share it."""
        made_by = {"numerics": self.made_by.numerics, "sources": self.made_by.sources}
        return digest([encoder_choices(self.recipe), made_by, self.weights], 10)


class FeaturesRecord(ArtifactRecord):
    """The features of every volume of a data set under one encoder (features.json)."""

    kind: Literal["features"] = "features"
    encoder: Hex = Field(description="key of the encoder")
    encoder_sha256: Hex = Field(description="of its weights")
    data: str = Field(description="data set, with variant and plane")
    fingerprint: Hex = Field(description="hash of the bytes of the volumes")
    volumes: Count
    widths: dict[str, Count] = Field(description="features per volume, by read-out")
    seconds: float | None = Field(None, description="time of the extraction")


class DataRecord(Record):
    """The data that an encoder was evaluated on."""

    name: str = Field(description="data set, with its variant and plane")
    synthetic: bool = Field(description="whether the volumes are generated")
    fingerprint: Hex = Field(
        description="hash of the bytes of the cases with a target, of their targets, patients and splits, as in the key"
    )
    task: Task
    plane: str = Field("", description="plane of the exam; empty if the data set has none")
    n_train: Count = Field(description="training cases with a target, before a part of them is drawn")
    n_test: Count = Field(description="test cases with a target")
    n_test_patients: Count = Field(description="patients that these are of")
    patients_known: bool = Field(True, description="false: patients are unknown, and every case is taken for one")


class Score(Record):
    """The scores of an encoder under one protocol, on the test cases."""

    metrics: dict[str, float | None] = Field(description="by name; null where one is undefined, see reasons")
    reasons: dict[str, str] = Field({}, description="why a metric is null, by its name")
    metric: str = Field("auc", description="which of them ranks methods on this kind of task")
    interval: tuple[float, float] | None = Field(
        None,
        description="95% limits of that metric, over patients; null if undefined, or with several labels",
    )
    threshold: float | None = Field(
        None, description="of the probability of class 1, chosen on training data; null if the task is not binary"
    )
    chosen: dict[str, Any] = Field({}, description="what the protocol chose inside the training data")
    seconds: float | None = Field(None, description="time that the protocol took")


class EvaluationRecord(ArtifactRecord):
    """One encoder on one task under one protocol, with all or some of the training labels (evaluation.json)."""

    kind: Literal["evaluation"] = "evaluation"
    recipe: EvaluationRecipe
    encoder: Hex = Field(description="key of the encoder")
    encoder_sha256: Hex = Field(description="of its weights")
    data: DataRecord
    n_labels: Count = Field(description="training cases whose labels were used")
    n_positive: Count | None = Field(None, description="positives among them; null if the task is not binary")
    readout: str = Field("last", description="which features of the encoder were evaluated: last, multi, max, ...")
    score: Score

    @property
    def settings(self) -> str:
        """Hash of the recipe except seed, fold, draw and label subset, with the protocol's sources."""
        return digest([evaluation_choices(self.recipe), self.made_by.numerics, self.made_by.sources], 10)


def encoder_choices(recipe: EncoderRecipe) -> dict[str, Any]:
    """Return the part of the recipe that encoders of one row share: everything except seed, fold and task."""
    corpus = [{**part.model_dump(mode="json"), "fold": 0} for part in recipe.corpus]
    init = {} if recipe.init is None else {"init": recipe.init.choices()}
    return {**recipe.model_dump(mode="json", exclude={"seed", "task", "corpus", "init"}), "corpus": corpus, **init}


def evaluation_choices(recipe: EvaluationRecipe) -> dict[str, Any]:
    """Return what evaluations of one row share of their recipes: everything except seed, fold, task and labels."""
    return recipe.model_dump(mode="json", exclude={"seed", "fold", "labels", "positives", "draw", "task"})


class FailureRecord(Record):
    """An artifact that could not be made (failure.json in its folder, instead of its record)."""

    schema_version: Literal[1] = 1
    kind: Kind = Field(description="of the artifact")
    key: Hex
    name: str
    reason: str = Field(min_length=1, description="one sentence")
    caused_by: Hex | None = Field(None, description="key of the artifact that failed first, if it is another one")
    diverged: bool = Field(False, description="whether that was a training whose loss or gradient became not finite")
    finished_at: str


class PlannedEncoder(Record):
    """An encoder that a run needs."""

    key: Hex
    name: Name
    recipe: EncoderRecipe
    sources: dict[str, Hex] = {}
    rate: Hex | None = Field(None, description="key of the choice of its learning rate; null: the recipe's")


class PlannedRate(Record):
    """A choice of a learning rate that a run needs, and its trial encoders."""

    key: Hex
    name: Name
    recipe: RateRecipe
    trials: tuple[PlannedEncoder, ...] = ()


class PlannedEvaluation(Record):
    """An evaluation that a run needs."""

    key: Hex
    name: Name = Field(description="folder below evaluations/: DATASET-TASK/METHOD-BACKBONE-sSEED-PROTOCOL-KEY")
    recipe: EvaluationRecipe
    encoder: Hex = Field(description="key of the encoder")


class Primary(Record):
    """The primary comparison of a run, fixed by its first request, before any result."""

    data: str = Field(description="data set, with its variant: the first one requested")
    protocol: str = Field(description="the first one requested")
    tasks: tuple[str, ...] = Field(description="targets requested; of several, the mean is compared")
    planes: tuple[str, ...] = Field((), description="planes requested; of several, the combination is compared")


class PlanRecord(Record):
    """The artifacts of a run (plan.json): requests of repeated calls are merged."""

    schema_version: Literal[1] = 1
    base: dict[str, Any] = Field(description="what all calls on this folder share, in plain values")
    roots: dict[str, str] = Field({}, description="folders of the data sets' files, by name")
    cache: str | None = Field(None, description="folder of shared stores, encoders and features")
    stores: dict[str, str] = Field({}, description="folders of the packed volumes, by name of the data set and plane")
    encoders: dict[str, PlannedEncoder] = Field({}, description="by key")
    rates: dict[str, PlannedRate] = Field({}, description="choices of learning rates, by key")
    evaluations: dict[str, PlannedEvaluation] = Field({}, description="by key")
    primary: Primary | None = Field(None, description="of the first request; null before it is planned")
    lacking: dict[str, tuple[str, ...]] = Field({}, description="controls that the table lacks, by the reason")

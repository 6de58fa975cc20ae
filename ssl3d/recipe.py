"""Recipes: everything that decides the numbers of an artifact, as one frozen value. Loads no torch.

Encoders and evaluations each have their own recipe. Its canonical JSON goes into the artifact's key, together
with the keys of its inputs, the sources of its plugins, and the numerics version of the core (`ssl3d.results.keys`).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ssl3d.config import Config

Share = Annotated[float, Field(ge=0, le=1)]
ShareRange = tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]]
Positive = Annotated[float, Field(gt=0)]
LabelShare = Annotated[float, Field(gt=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, lt=1)]
OneOrMore = Annotated[
    tuple[Positive, ...], BeforeValidator(lambda value: (value,) if isinstance(value, float) else value)
]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # the range that scikit-learn accepts
TRIAL_SEED = 2**32 - 1  # of trials of learning rates, and of no row of a table: the seeds of a row stay exchangeable
Side = Annotated[int, Field(ge=1, le=4096)]
Size = tuple[Side, Side, Side]


def _grid(factors: tuple[float, ...]) -> tuple[float, ...]:
    if factors and len(set(factors)) < max(2, len(factors)):
        raise ValueError(f"{list(factors)} is no grid to choose from; give two or more different factors, or none")
    return tuple(sorted(factors))


Factors = Annotated[tuple[Positive, ...], AfterValidator(_grid)]


class AugmentRecipe(Config):
    """The augmentation that makes a view. Geometry is one resampling; D, H, W are slices, rows, columns."""

    crop: ShareRange = Field((0.4, 1.0), description="range of the share of the in-plane area kept")
    aspect: tuple[Positive, Positive] = Field(
        (0.75, 1.3333), description="range of the crop's height to width, as a multiple of the volume's own"
    )
    depth: ShareRange = Field(
        (0.6, 1.0),
        description="range of the share of the slices kept, in one run: of more than half of them it always holds the "
        "middle one, and the outer ones seldom",
    )
    depth_gap: bool = Field(
        False,
        description="leave out one run of slices instead, at an end or between: every slice equally often, but most "
        "views then step over a gap",
    )
    flip: tuple[Share, Share, Share] = Field(
        (0.0, 0.0, 0.0),
        description="chance of a flip along D, H, W; unset: 0.5 along the axes on which the data set calls flips sound",
    )
    flip_left_right: bool = Field(
        False,
        description="allow flips along the axis that swaps left and right where the data set does not call them sound",
    )
    rotate: float = Field(10.0, ge=0, le=180, description="largest in-plane rotation, degrees either way")
    brightness: float = Field(0.3, ge=0, description="largest shift, in standard deviations of the volume, either way")
    contrast: float = Field(0.3, ge=0, lt=1, description="largest change of the contrast factor from 1, either way")
    gamma: float = Field(0.3, ge=0, description="exponent between 1/(1+gamma) and 1+gamma, on values scaled to [0, 1]")
    blur: Share = Field(0.5, description="chance of a Gaussian blur")
    blur_sigma: tuple[Positive, Positive] = Field(
        (0.1, 1.0), description="range of its width in the plane, in voxels of the view"
    )
    noise: float = Field(0.1, ge=0, description="largest width of voxel noise, in standard deviations of the volume")
    slice_dropout: Share = Field(0.0, description="largest share of the slices replaced by the volume's mean")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("crop", "aspect", "depth", "blur_sigma"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} = ({low}, {high}): the first must not be larger than the second")
        return self


class PretrainRecipe(Config):
    """The settings of a pretraining: length, batch sizes, optimiser."""

    epochs: int = Field(100, ge=1, le=1_000_000, description="passes over the training volumes")
    batch_size: int = Field(64, ge=2, le=1_000_000, description="effective batch: volumes behind one optimiser step")
    micro_batch: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        None,
        description="volumes on the device with activations at once; unset: the effective batch; auto: what fits, "
        "found by trial before the first step, keep with it",
    )
    keep: int = Field(
        1,
        ge=1,
        description="micro-batches whose activations stay between the passes of exact accumulation: less work, more "
        "memory",
    )
    accumulation: Literal["exact", "plain"] = Field(
        "exact",
        description="exact: the gradient of the whole effective batch; plain: one loss per micro-batch",
    )
    optimizer: Literal["adamw", "sgd", "lars"] = Field("adamw", description="optimiser")
    lr: float = Field(2e-3, gt=0, description="base learning rate, for an effective batch of 256 where it is scaled")
    tune_lr: Factors = Field(
        (),
        description="factors of lr to choose from: one encoder is pretrained with each, and a linear probe decides on "
        "inner folds of the training split; never for a method that sees labels; unset: lr is used as it is",
    )
    lr_scaling: Literal["none", "linear", "sqrt"] = Field(
        "sqrt",
        description="how lr follows the effective batch: lr * (batch/256), or its square root, or not at all",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd and lars")
    weight_decay: float = Field(1e-4, ge=0, description="not applied to norms and biases")
    weight_decay_end: float | None = Field(
        None, ge=0, description="weight decay at the end of the training, reached along half a cosine; unset: constant"
    )
    clip_gradient: float | None = Field(
        None, gt=0, description="largest norm of the whole gradient; a longer one is scaled down to it"
    )
    warmup_epochs: float | None = Field(
        None,
        ge=0,
        description="epochs of linear warm-up; unset: a tenth of the run; longer than the run: clamped",
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true", "auto"] = Field(
        "32-true",
        description="arithmetic of the backbone; heads and loss are float32 at least; auto: bf16-mixed where a trial "
        "finds it faster and its gradients sound, else 32-true",
    )
    channels_last: bool | Literal["auto"] = Field(
        False, description="memory layout of weights and views; auto: the faster one, by trial"
    )
    compile: bool | Literal["auto"] = Field(False, description="torch.compile the backbone; auto: where a trial gains")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.micro_batch == "auto" and self.accumulation == "plain":
            raise ValueError(
                "micro_batch = 'auto' needs exact accumulation; under plain it decides what is computed: name a number"
            )
        if isinstance(self.micro_batch, int) and self.micro_batch > self.batch_size:
            raise ValueError(
                f"micro_batch = {self.micro_batch} is larger than batch_size = {self.batch_size}; "
                "a micro-batch is a part of the effective batch"
            )
        return self


class CorpusPart(Config):
    """Volumes of one data set used for pretraining: its training split and its unlabelled cases."""

    data: str = Field("demo", description="data set, with its variant: demo, mrnet, medmnist3d:adrenalmnist3d")
    plane: str | None = Field(None, description="plane of the exam; None where the data set has no planes")
    folds: int | None = Field(None, ge=2, description="outer folds in place of the data set's own split")
    fold: int = Field(0, ge=0, description="which of them is held out")


class InitialWeights(Config):
    """Weights that an encoder starts from: published ones of its backbone, or a file."""

    name: str = Field("", description="of the backbone's published weights, or path of the file")
    sha256: str | None = Field(None, description="of the file; null: published weights, whose hash is in the key alone")
    prefix: str | None = Field(None, description="beginning of the network's names in the file; null: by trial")
    allow_partial: bool = Field(False, description="load it even if it lacks some of the network's tensors")
    corpora: tuple[str, ...] = Field((), description="data sets that the weights were pretrained on, as far as known")

    def choices(self) -> dict[str, Any]:
        """Return what decides numbers: not where a file lies, nor what is known about it."""
        plain = {"prefix": self.prefix, "allow_partial": self.allow_partial}
        return {**plain, "weights": self.sha256 or self.name}

    @property
    def text(self) -> str:
        """The name, or for a file its own name and the first digits of its hash."""
        return self.name if self.sha256 is None else f"{PurePath(self.name).name} ({self.sha256[:8]})"


class EncoderRecipe(Config):
    """Everything that decides an encoder, except its files and their bytes.

    For an encoder that is not trained (random or as published), ``corpus``, ``task``, ``augment`` and ``pretrain`` are
    empty: they do not affect it.
    """

    method: str = "byol"
    method_config: dict[str, Any] = Field(default_factory=dict)
    backbone: str = "tiny"
    backbone_config: dict[str, Any] = Field(default_factory=dict)
    seed: Seed = 0
    init: InitialWeights | None = Field(None, description="weights that it starts from; null: it is drawn by the seed")
    corpus: tuple[CorpusPart, ...] = ()
    task: str | None = Field(None, description="whose labels the method sees; None where it needs none")
    view_size: Size = (16, 112, 112)
    augment: AugmentRecipe | None = None
    pretrain: PretrainRecipe | None = None

    def canonical(self) -> str:
        """Return JSON with sorted keys and no white space: equal recipes give equal text."""
        return canonical(self.model_dump(mode="json"))


class LabelledPart(Config):
    """The training cases of one task in one data set, plane and fold."""

    data: str = Field("demo", description="data set, with its variant")
    plane: str | None = None
    task: str = "acl"
    folds: int | None = Field(None, ge=2, description="outer folds in place of the data set's own split")
    fold: int = Field(0, ge=0, description="which of them is held out")


class RateRecipe(Config):
    """Everything that decides the choice of a learning rate, except the trial encoders and the training cases."""

    lr: Positive = Field(2e-3, description="base learning rate of the recipe")
    factors: Factors = Field((), description="factors of it to choose from")
    parts: tuple[LabelledPart, ...] = Field((), description="training cases whose mean score decides")
    readouts: tuple[str, ...] = Field(("last",), min_length=1, description="features that the probe chooses from")
    view_size: Size = (16, 112, 112)
    batch_size: int = Field(16, ge=1, description="volumes encoded at once")
    inner_folds: int = Field(5, ge=2, description="folds of the training cases")
    seed: Seed = Field(TRIAL_SEED, description="of the inner splits")


class EvaluationRecipe(Config):
    """Everything that decides an evaluation, except the encoder."""

    data: str = Field("demo", description="data set, with its variant")
    plane: str | None = None
    task: str = Field("acl", description="target that is predicted")
    folds: int | None = Field(None, ge=2, description="outer folds in place of the data set's own split")
    fold: int = Field(0, ge=0, description="which of them is the test set")
    protocol: str = "linear"
    protocol_config: dict[str, Any] = Field(default_factory=dict)
    readouts: tuple[str, ...] = Field(
        ("last",), min_length=1, description="features of the encoder that the training cases choose from"
    )
    view_size: Size = (16, 112, 112)
    batch_size: int = Field(16, ge=1, description="volumes encoded at once")
    inner_folds: int = Field(5, ge=2, description="folds of the training cases that choose what a protocol tunes")
    seed: Seed = Field(0, description="of inner splits, label draws and fine-tuning")
    labels: LabelShare = Field(1.0, description="share of the training labels that is used")
    positives: PositiveShare | None = Field(None, description="share of positives among them, where that is set")
    draw: int = Field(0, ge=0, description="which draw of the labels")
    augment: AugmentRecipe | None = Field(None, description="of the volumes, for a protocol that trains the encoder")

    def canonical(self) -> str:
        """Return JSON with sorted keys and no white space: equal recipes give equal text."""
        return canonical(self.model_dump(mode="json"))

    @property
    def condition(self) -> str:
        """Name of the subset of training labels used: "labels=0.1 draw=2"; empty if all are used."""
        if self.positives is not None:
            return f"positives={self.positives!r} draw={self.draw}"
        return f"labels={self.labels!r} draw={self.draw}" if self.labels < 1 else ""


def canonical(value: Any) -> str:
    """Return plain values as JSON with sorted keys and no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def digest(value: Any, digits: int = 16) -> str:
    """Return the first hexadecimal digits of the SHA-256 of :func:`canonical`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:digits]

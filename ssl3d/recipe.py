"""Recipes: all that a cell needs, as one frozen value. TOML in, canonical JSON and its hash out. Loads no torch."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ssl3d.config import Config

Share = Annotated[float, Field(ge=0, le=1)]
ShareRange = tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]]
Positive = Annotated[float, Field(gt=0)]
LabelShare = Annotated[float, Field(gt=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, lt=1)]
OneOrMore = Annotated[
    tuple[Positive, ...], BeforeValidator(lambda value: (value,) if isinstance(value, float) else value)
]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what scikit-learn takes
Size = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]


class DataRecipe(Config):
    """Which volumes, and which label of theirs. Where the files are is not part of a recipe: their bytes are."""

    name: str = Field("demo", description="data set, with its variant: demo, mrnet, medmnist3d:adrenalmnist3d")
    task: str | None = Field(None, description="label to predict; the data set's first if unset")
    plane: str | None = Field(None, description="plane of the exam; the data set's first if unset")
    folds: int | None = Field(
        None, ge=2, description="outer folds of cross-validation, in place of the data set's own split"
    )
    fold: int = Field(0, ge=0, description="which of them is the test set")

    @model_validator(mode="after")
    def _is_one_of_the_folds(self) -> Self:
        if self.fold >= (self.folds or 1):
            raise ValueError(f"fold = {self.fold} is not one of {self.folds or 1}; they are counted from 0")
        return self


class AugmentRecipe(Config):
    """What a view does to its volume. Geometry is one resampling; D, H, W are slices, rows, columns."""

    crop: ShareRange = Field((0.4, 1.0), description="range of the share of the in-plane area kept")
    aspect: tuple[Positive, Positive] = Field(
        (0.75, 1.3333), description="range of the crop's height to width, as a multiple of the volume's own"
    )
    depth: ShareRange = Field(
        (0.6, 1.0),
        description="range of the share of the slices kept; one run of slices is left out, at an end or between, so "
        "that every slice is left out equally often",
    )
    flip: tuple[Share, Share, Share] = Field(
        (0.0, 0.0, 0.5),
        description="chance of a flip along D, H, W; never along the axis known to swap left and right",
    )
    flip_left_right: bool = Field(False, description="allow flips along the axis that swaps left and right, too")
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
    """One pretraining: how long, in what portions, with which optimiser."""

    epochs: int = Field(100, ge=1, description="passes over the training volumes")
    batch_size: int = Field(64, ge=2, description="effective batch: volumes behind one optimiser step")
    micro_batch: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        None,
        description="volumes on the device with activations at one time; unset: the effective batch; auto: what fits, "
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
        description="exact: the gradient of the whole effective batch; plain: a loss for each micro-batch",
    )
    optimizer: Literal["adamw", "sgd", "lars"] = Field("adamw", description="optimiser")
    lr: float = Field(2e-3, gt=0, description="base learning rate, for an effective batch of 256 where it is scaled")
    lr_scaling: Literal["none", "linear", "sqrt"] = Field(
        "sqrt",
        description="how lr follows the effective batch: lr * (batch/256), or its square root, or not at all",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd and lars")
    weight_decay: float = Field(1e-4, ge=0, description="not applied to norms and biases")
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


class EvaluateRecipe(Config):
    """How the encoder is judged."""

    protocols: tuple[Literal["linear", "knn", "finetune"], ...] = Field(
        ("linear", "knn"), min_length=1, description="linear probe, nearest neighbours, fine-tuning"
    )
    inner_folds: int = Field(5, ge=2, description="folds of the training volumes that choose what a protocol tunes")
    labels: tuple[LabelShare, ...] = Field(
        (1.0,), min_length=1, description="shares of the training labels to judge with, as well as all of them"
    )
    imbalance: tuple[PositiveShare, ...] = Field(
        (), description="shares of positives among the training labels to judge with, at one number of labels"
    )
    draws: int = Field(3, ge=1, description="draws of the labels at each such share")
    batch_size: int = Field(16, ge=1, description="volumes encoded at one time")
    finetune_epochs: int = Field(30, ge=1, description="most epochs of fine-tuning")
    finetune_lr: OneOrMore = Field(
        (2e-4, 1e-3), min_length=1, description="learning rate, or several to choose from (AdamW, cosine)"
    )
    finetune_batch_size: int = Field(16, ge=2, description="its batch")
    finetune_balance: Literal["weights", "sampling", "none"] = Field(
        "weights", description="rare classes weigh more in the loss, or are drawn more often, or neither"
    )
    finetune_crops: int = Field(4, ge=1, description="views of a test volume whose predictions are averaged")

    @model_validator(mode="after")
    def _once(self) -> Self:
        for field in ("protocols", "labels", "imbalance", "finetune_lr"):
            values = getattr(self, field)
            for value in values:
                if values.count(value) > 1:
                    raise ValueError(f"{field} names {value!r} twice")
        return self


class Recipe(Config):
    """Everything that decides a cell's numbers."""

    method: str = "byol"
    method_config: dict[str, Any] = Field(default_factory=dict)
    backbone: str = "tiny"
    backbone_config: dict[str, Any] = Field(default_factory=dict)
    seed: Seed = 0
    data: DataRecipe = DataRecipe()
    view_size: Size = (16, 112, 112)
    augment: AugmentRecipe = AugmentRecipe()
    pretrain: PretrainRecipe = PretrainRecipe()
    evaluate: EvaluateRecipe = EvaluateRecipe()
    sources: dict[str, str] = Field(default_factory=dict, description="hashes of the files that plugins were named by")

    def canonical(self) -> str:
        """Return JSON with sorted keys and no white space: equal recipes, equal text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def hash(self) -> str:
        """Return the first 10 hexadecimal digits of the SHA-256 of :meth:`canonical`."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:10]

    def pretraining_hash(self) -> str:
        """Return :meth:`hash` of what decides the encoder: everything but the task and how it is judged."""
        data = self.data.model_copy(update={"task": None})
        return self.model_copy(update={"data": data, "evaluate": EvaluateRecipe()}).hash()

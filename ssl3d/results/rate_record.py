"""The record of a chosen learning rate. Loads no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ssl3d.recipe import RateRecipe
from ssl3d.results.model import ArtifactRecord, Hex, Record


class Trial(Record):
    """One learning rate that was tried."""

    factor: float = Field(gt=0, description="of the recipe's rate")
    encoder: Hex = Field(description="key of the encoder that was pretrained with it")
    encoder_sha256: Hex | None = Field(None, description="of its weights; null if its training diverged")
    scores: tuple[float | None, ...] = Field(
        (), description="of each part of the recipe; null where nothing could be held out"
    )
    score: float | None = Field(None, description="their mean, by which the rate is chosen; null if there is none")
    seconds: float | None = Field(None, description="time of its pretraining; null if it diverged")
    flops: float | None = Field(None, description="floating-point operations of its pretraining; null if it diverged")
    problem: str = Field("", description="why it diverged; empty if it did not")


class RateRecord(ArtifactRecord):
    """A learning rate chosen from a grid on the training cases (rate.json)."""

    kind: Literal["rate"] = "rate"
    recipe: RateRecipe
    data: tuple[Hex, ...] = Field(
        description="for each part of the recipe, hash of the bytes, targets and patients of its training cases"
    )
    trials: tuple[Trial, ...] = Field(description="in the order of the factors")
    factor: float = Field(gt=0, description="of the recipe's rate, as chosen")
    probe_seconds: float = Field(description="time of the probes")

    @property
    def lr(self) -> float:
        """The chosen base learning rate."""
        return self.recipe.lr * self.factor

    @property
    def seconds(self) -> float:
        """Time of all trials that did not diverge, and of the probes."""
        return sum(trial.seconds or 0.0 for trial in self.trials) + self.probe_seconds

    @property
    def flops(self) -> float:
        """Floating-point operations of all trials that did not diverge."""
        return sum(trial.flops or 0.0 for trial in self.trials)

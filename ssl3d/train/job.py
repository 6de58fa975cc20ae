"""The request for one pretraining, and its state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from ssl3d.engine import Engine
from ssl3d.method import AnyMethod
from ssl3d.progress import Progress
from ssl3d.recipe import EncoderRecipe, PretrainRecipe
from ssl3d.train.encode import Source


@dataclass(frozen=True)
class Job:
    """One pretraining.

    Attributes:
        method: trained in place; moved to the device of ``fabric``.
        source: the corpus.
        indices: indices in the source of the volumes to pretrain on.
        recipe: recipe of the encoder, with a ``pretrain`` part.
        key: key of the encoder; a checkpoint of another encoder is refused.
        fabric: device, precision, processes.
        folder: where checkpoint and log are written.
        name: name of the encoder, for progress.
        progress: receives phase, steps and notes.
        checkpoint_seconds: minimum time between two checkpoints.
        engine: how the recipe is executed; from the recipe if None.
    """

    method: AnyMethod
    source: Source
    indices: Sequence[int]
    recipe: EncoderRecipe
    key: str
    fabric: Fabric
    folder: Path
    name: str
    progress: Progress = field(default_factory=Progress)
    checkpoint_seconds: float = 60.0
    engine: Engine | None = None

    @property
    def pretraining(self) -> PretrainRecipe:
        """The ``pretrain`` part of the recipe; the defaults if it has none."""
        return self.recipe.pretrain or PretrainRecipe()


@dataclass
class State:
    """The contents of a checkpoint besides weights and optimiser.

    Attributes:
        step: optimiser steps done.
        seconds: time spent so far, over all resumes.
        rows: one row of values per complete epoch.
        epoch: scalars of the steps in the current epoch.
        measures: measures of collapse, on the last whole effective batch of the epoch.
        engine: how the recipe is executed, as plain values: a resumed run continues in the same way.
        notes: deviations from the plan.
    """

    step: int = 0
    seconds: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)
    epoch: list[dict[str, float]] = field(default_factory=list)
    measures: dict[str, float] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class TrainingError(Exception):
    """The loss or a gradient is not finite. Names the step, the learning rate and the last good checkpoint."""

"""One pretraining as it is asked for, and the state that it is in."""

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
        method: is trained in place; moved to the device of ``fabric``.
        source: the corpus.
        indices: numbers of the volumes in it that are pretrained on.
        recipe: of the encoder; it has a ``pretrain`` part.
        key: of the encoder; a checkpoint of another one is refused.
        fabric: device, precision, processes.
        folder: checkpoint and log are written here.
        name: of the encoder, for progress.
        progress: receives phase, steps and notes.
        checkpoint_seconds: least time between two checkpoints.
        engine: how the recipe is carried out; as the recipe says if None.
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
        """That part of the recipe; the defaults if it has none."""
        return self.recipe.pretrain or PretrainRecipe()


@dataclass
class State:
    """What a checkpoint holds beside weights and optimiser.

    Attributes:
        step: optimiser steps done.
        seconds: time spent so far, over all resumes.
        rows: one row of figures per complete epoch.
        epoch: scalars of the steps of the current epoch.
        measures: of collapse, on the last whole effective batch of the epoch.
        engine: how it is carried out, in plain values: a resumed run goes on in the same way.
        notes: what happened otherwise than planned.
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

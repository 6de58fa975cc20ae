"""Schedules as functions of the optimiser step, so that a resumed run has no schedule state to restore."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightly.utils.scheduler import cosine_schedule

from ssl3d.recipe import PretrainRecipe

REFERENCE_BATCH = 256  # the effective batch for which papers state learning rates


@dataclass(frozen=True)
class Schedule:
    """Steps, learning rates and weight decays of one pretraining.

    Attributes:
        volumes: volumes per epoch.
        batch_size: effective batch; the last one of an epoch may be shorter.
        epochs: passes over the volumes.
        warmup_steps: steps of linear warm-up, at most all.
        peak: learning rate after the warm-up.
        decay: weight decay at the start and at the end.
    """

    volumes: int
    batch_size: int
    epochs: int
    warmup_steps: int
    peak: float
    decay: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(cls, recipe: PretrainRecipe, volumes: int) -> Schedule:
        """Build the schedule of a recipe for a number of training volumes."""
        batch = min(recipe.batch_size, volumes)
        epoch = _steps(volumes, batch)
        warmup = recipe.epochs / 10 if recipe.warmup_epochs is None else recipe.warmup_epochs
        ratio = batch / REFERENCE_BATCH
        factor = {"none": 1.0, "linear": ratio, "sqrt": ratio**0.5}[recipe.lr_scaling]
        steps = min(round(warmup * epoch), recipe.epochs * epoch)
        end = recipe.weight_decay if recipe.weight_decay_end is None else recipe.weight_decay_end
        return cls(volumes, batch, recipe.epochs, steps, recipe.lr * factor, (recipe.weight_decay, end))

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch; a final batch of one volume is dropped, as it has nothing to contrast with."""
        return _steps(self.volumes, self.batch_size)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole pretraining."""
        return self.epochs * self.steps_per_epoch

    def batch(self, step: int) -> range:
        """Return the positions of a step's effective batch in the epoch's order."""
        start = step % self.steps_per_epoch * self.batch_size
        return range(start, min(start + self.batch_size, self.volumes))

    def is_last_whole(self, step: int) -> bool:
        """Return whether a step is the epoch's last with a whole effective batch: its measures are comparable."""
        whole = max(1, self.volumes // self.batch_size)
        return step % self.steps_per_epoch == whole - 1

    def lr(self, step: int) -> float:
        """Return the learning rate of a step: linear warm-up to the peak, then half a cosine to zero."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        decay = self.steps - self.warmup_steps + 1
        return float(cosine_schedule(step - self.warmup_steps, decay, self.peak, 0.0))

    def weight_decay(self, step: int) -> float:
        """Return the weight decay of a step: half a cosine from the first value to the last."""
        start, end = self.decay
        return end + (start - end) * (1.0 + math.cos(math.pi * self.progress(step))) / 2.0

    def progress(self, step: int) -> float:
        """Return the fraction of the training done before a step, in [0, 1)."""
        return step / self.steps


def _steps(volumes: int, batch: int) -> int:
    return max(1, volumes // batch + (volumes % batch > 1))

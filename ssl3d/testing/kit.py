"""A method on a toy backbone with tiny volumes, built, split and trained in the ways that its rules look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ssl3d.config import Config
from ssl3d.data.augment import Augment
from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes
from ssl3d.method import Method
from ssl3d.testing.modules import note_gradients
from ssl3d.testing.randomness import seeded
from ssl3d.testing.roles import momentum_parameters
from ssl3d.testing.runner import NotApplicable
from ssl3d.testing.toys import SIZE, RaggedSource, ToyBackbone
from ssl3d.train.encode import Batch, Encoder
from ssl3d.train.processes import Group
from ssl3d.train.window import Outcome, Window

COUNT = 8  # volumes of an effective batch
STEPS = 3  # enough to open residual branches that start at zero, and to fill queues that start empty
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Training:
    """A short training in float64, and what was seen of it.

    Attributes:
        method: as it ended, in training mode, without gradients.
        losses: one a step.
        initial: parameters as built.
        between: parameters after the last optimiser step, before ``after_step``.
        final: parameters at the end.
        gradients: largest size of an element of each parameter's gradient; absent where there never was one.
    """

    method: Method
    losses: list[float]
    initial: dict[str, Tensor]
    between: dict[str, Tensor]
    final: dict[str, Tensor]
    gradients: dict[str, float]


class MethodKit:
    """What rules ask of a method class.

    Args:
        kind: the class.
        settings: fields of its configuration in place of the defaults, to make wide heads quick to check.
    """

    def __init__(self, kind: type[Method], settings: Mapping[str, Any] | None = None) -> None:
        self.kind = kind
        self.settings = dict(settings or {})
        self.source = RaggedSource(4 * COUNT)

    @property
    def config(self) -> Config:
        """The settings that are checked."""
        return self.kind.Config.checked(self.settings, self.kind.__name__)

    def build(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> Method:
        """Return the method around a toy backbone, in training mode."""
        with seeded(seed):
            return self.kind(ToyBackbone(), self.config, Augment(size=SIZE)).to(dtype).train()

    def volumes(self, count: int = COUNT) -> Volumes:
        """Return the first volumes."""
        return self.source.volumes(range(count))

    def rng(self, part: range, step: int = 0) -> Rng:
        """Return what draws for a part of the effective batch of a step."""
        return Rng(0, step, part)

    def views(self, method: Method, step: int = 0, part: range = range(COUNT)) -> tuple[Tensor, ...]:
        """Return the views of a part of the effective batch of a step."""
        return method.views(self.source.volumes(part), self.rng(part, step))

    def features(self, method: Method, count: int = COUNT) -> tuple[list[Tensor], list[Tensor]]:
        """Return online features, with gradients where enabled, and targets: lists of (N, F)."""
        encoder = Encoder(method, self.source)
        batch, part = Batch(range(count), 0), range(count)
        views = encoder.views(batch, part, 1)
        online = [encoder.online(views[index], batch, part, index) for index in encoder.online_views(len(views))]
        return online, encoder.targets(views, batch, part)

    def backward(
        self,
        method: Method,
        micro_batch: int = COUNT,
        *,
        step: int = 0,
        count: int = COUNT,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> Outcome:
        """Replace the gradients of a method by those of one effective batch."""
        method.zero_grad(set_to_none=True)
        window = Window(Encoder(method, self.source, 0, autocast), micro_batch, True, Group())
        start = step * COUNT % (2 * COUNT)  # so that steps meet different volumes
        return window.backward(Batch(range(start, start + count), step))

    def train(self, method: Method, steps: range, before_after_step: Callable[[], None] = lambda: None) -> list[float]:
        """Take optimiser steps with a new optimiser; return their losses.

        Args:
            method: to train.
            steps: their numbers.
            before_after_step: called between each optimiser step and ``after_step``.
        """
        optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=LEARNING_RATE)
        losses = []
        for step in steps:
            outcome = self.backward(method, step=step)
            optimizer.step()
            before_after_step()
            outcome.statistics.commit()
            method.after_step(step / 100, outcome.kept)
            losses.append(outcome.scalars["loss"])
        return losses

    @cached_property
    def training(self) -> Training:
        """A short training, made once.

        Raises:
            NotApplicable: the method does not train.
        """
        if not self.kind.trains:
            raise NotApplicable("it is judged as it is built, without training")
        method = self.build(dtype=torch.float64)
        initial, between = parameters(method), {}
        gradients: dict[str, float] = {}

        def look() -> None:
            between.update(parameters(method))
            note_gradients(method, gradients)

        losses = self.train(method, range(STEPS), look)
        method.zero_grad(set_to_none=True)
        return Training(method, losses, initial, between, parameters(method), gradients)

    @cached_property
    def momentum(self) -> dict[str, str | None]:
        """Parameters of a momentum encoder, and the online ones that they follow."""
        return momentum_parameters(self)


def parameters(method: Method) -> dict[str, Tensor]:
    """Return copies of all parameters by name."""
    return {name: parameter.detach().clone() for name, parameter in method.named_parameters()}

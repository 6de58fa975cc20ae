"""A method on a toy backbone with tiny volumes, built, split and trained in the ways that its rules look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ssl3d.budget import Budget
from ssl3d.config import Config
from ssl3d.data.augment import Augment
from ssl3d.data.rng import Rng, Stream
from ssl3d.data.volumes import Volumes
from ssl3d.method import AnyMethod, Batch, Loss, Views
from ssl3d.task import Kind
from ssl3d.testing.modules import note_gradients
from ssl3d.testing.randomness import seeded
from ssl3d.testing.runner import NotApplicable
from ssl3d.testing.shrink import shrink
from ssl3d.testing.toys import SIZE, TOKEN_SIZE, RaggedSource, ToyBackbone, ToyTokens, toy_task
from ssl3d.train.encode import BatchEncoder, EffectiveBatch
from ssl3d.train.optimizer import parameter_groups
from ssl3d.train.processes import Group
from ssl3d.train.returned import checked_loss, checked_views
from ssl3d.train.window import Window, WindowResult

COUNT = 8  # volumes of an effective batch
STEPS = 3  # enough to open residual branches that start at zero, and to fill queues that start empty
TRAINING = 100  # steps of the training that progress is a share of
LEARNING_RATE = 1e-3
BUDGET = Budget(TRAINING, 4 * COUNT, COUNT)


@dataclass(frozen=True)
class Training:
    """A short training in float64, and what was seen of it.

    Attributes:
        method: as it ended, in training mode, without gradients.
        losses: one per step.
        initial: parameters as built.
        between: parameters after the last optimiser step, before ``after_step``.
        final: parameters at the end.
        gradients: largest size of an element of each parameter's gradient; absent where there never was one.
    """

    method: AnyMethod
    losses: list[float]
    initial: dict[str, Tensor]
    between: dict[str, Tensor]
    final: dict[str, Tensor]
    gradients: dict[str, float]


class MethodKit:
    """What rules look at of a method's class.

    Args:
        kind: the class.
        settings: fields of its configuration in place of the defaults.
        labels: kind of the task, for a method that needs labels.
    """

    def __init__(
        self, kind: type[AnyMethod], settings: Mapping[str, Any] | None = None, labels: Kind = "binary"
    ) -> None:
        self.kind = kind
        self.settings = dict(settings or {})
        self.task = toy_task(labels)
        self.source = RaggedSource(4 * COUNT, task=self.task)

    @cached_property
    def small(self) -> dict[str, Any]:
        """Wide settings made small; none if the method cannot be built with them."""
        small = shrink(self.kind.Config, self.settings)
        try:
            self._build({**self.settings, **small}, seed=0)
        except Exception:  # whatever it is, it may be due to the small values: the defaults say
            return {}
        return small

    @property
    def config(self) -> Config:
        """The settings that are checked."""
        return self.kind.Config.checked({**self.settings, **self.small}, self.kind.__name__)

    def build(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> AnyMethod:
        """Return the method around a toy backbone, in training mode."""
        return self._build({**self.settings, **self.small}, seed).to(dtype).train()

    def _build(self, settings: Mapping[str, Any], seed: int) -> AnyMethod:
        tokens = getattr(self.kind, "needs_tokens", False)
        config = self.kind.Config.checked(settings, self.kind.__name__)
        with seeded(seed):
            backbone = ToyTokens() if tokens else ToyBackbone()
            return self.kind(backbone, config, Augment(size=TOKEN_SIZE if tokens else SIZE), self.task, BUDGET)

    def volumes(self, part: range = range(COUNT)) -> Volumes:
        """Return volumes."""
        return self.source.volumes(part)

    def views(self, method: AnyMethod, step: int = 0, part: range = range(COUNT)) -> Views:
        """Return the views of a part of the effective batch of a step."""
        return checked_views(method, method.views(self.volumes(part), Rng(0, step, part)), len(part))

    def encoder(self, method: AnyMethod) -> BatchEncoder:
        """Return what makes views and features of the volumes."""
        return BatchEncoder(method, self.source)

    def seen(
        self,
        method: AnyMethod,
        part: range = range(COUNT),
        step: int = 0,
        encoder: type[BatchEncoder] = BatchEncoder,
    ) -> Batch:
        """Return what the loss sees of a part of the effective batch of a step, with gradients where enabled."""
        return encoder(method, self.source).features(EffectiveBatch(range(COUNT), step), part)

    def loss(self, method: AnyMethod, seen: Batch, count: int = COUNT) -> Loss:
        """Return the loss of features, with draws as in the first step."""
        with self.encoder(method).seeded(Stream.LOSS, 0, range(count)):
            return checked_loss(method, method.loss(seen), count)

    def backward(
        self,
        method: AnyMethod,
        micro_batch: int = COUNT,
        *,
        step: int = 0,
        count: int = COUNT,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        encoder: type[BatchEncoder] = BatchEncoder,
    ) -> WindowResult:
        """Replace the gradients of a method by those of one effective batch."""
        window = Window(encoder(method, self.source, 0, autocast), micro_batch, True, Group())
        start = step * COUNT % (2 * COUNT)  # so that steps meet different volumes
        return window.backward(EffectiveBatch(range(start, start + count), step, step / TRAINING))

    def train(
        self,
        method: AnyMethod,
        steps: range,
        gradients: dict[str, float] | None = None,
        between: dict[str, Tensor] | None = None,
    ) -> list[float]:
        """Take optimiser steps with a new optimiser; return their losses.

        Args:
            method: to train.
            steps: their numbers.
            gradients: raised to the sizes of the gradients, those of parameters that are still frozen included.
            between: replaced by the parameters between the last optimiser step and ``after_step``.
        """
        groups = parameter_groups(method)
        optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE)
        losses = []
        for step in steps:
            outcome = self.backward(method, step=step)
            note_gradients(method, {} if gradients is None else gradients)
            for group in groups:
                if step / TRAINING < group["frozen_until"]:
                    for parameter in group["params"]:
                        parameter.grad = None
            optimizer.step()
            if between is not None:
                between.update(parameters(method))
            outcome.statistics.commit()
            method.after_step(step / TRAINING, outcome.kept)
            losses.append(outcome.scalars["loss"])
        return losses

    @cached_property
    def training(self) -> Training:
        """A short training, made once.

        Raises:
            NotApplicable: the method does not train.
        """
        self.must_train()
        method = self.build(dtype=torch.float64)
        initial, between = parameters(method), dict[str, Tensor]()
        gradients: dict[str, float] = {}
        losses = self.train(method, range(STEPS), gradients, between)
        method.zero_grad(set_to_none=True)
        return Training(method, losses, initial, between, parameters(method), gradients)

    def must_train(self) -> None:
        """Raise NotApplicable if the method does not train."""
        if not self.kind.trains:
            raise NotApplicable("it is evaluated as it is built, without training")


def parameters(method: AnyMethod) -> dict[str, Tensor]:
    """Return copies of all parameters by name."""
    return {name: parameter.detach().clone() for name, parameter in method.named_parameters()}


def tensors_of(views: Views) -> dict[str, Tensor]:
    """Return the views and all of their rows, by what a message calls them."""
    found = {f"view {index}": view for index, view in enumerate(views.tensors)}
    found |= {f"the row {name!r}": row for name, row in views.rows.items()}
    for index, rows in enumerate(views.view_rows):
        found |= {f"the row {name!r} of view {index}": row for name, row in rows.items() if name not in views.rows}
    return found

"""Supervised: the same encoder, trained from scratch on the labels; a control of every table with labels.

The reference that self-supervised methods should beat, or match with fewer labels. It sees only the labels of training
volumes, in the same views and for as many steps as the other methods; unlabelled volumes are ignored.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.errors import PluginError
from ssl3d.method import Batch, Card, Config, Kept, Loss, Method, Rng, Views, Volumes


class Supervised(Method[Config]):
    """One linear layer on the features, and the loss that fits the kind of task."""

    card: ClassVar[Card] = Card(
        name="Supervised",
        summary="trains the encoder on the labels of the training volumes, from scratch",
    )
    control = True
    needs = frozenset({"labels"})
    coupled = False

    def build(self) -> None:
        """Make the linear layer.

        Raises:
            PluginError: no task was named, so there are no labels to learn.
        """
        if self.task is None:
            raise PluginError("supervised learns the labels of a task; name one, as in --task acl")
        self.head = nn.Linear(self.backbone.embed_dim, self.task.outputs)
        # Number, sum and sum of squares of the targets of a regression.
        self.register_buffer("seen", torch.zeros(3, dtype=torch.float64))

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        """Return one view."""
        return Views(self.augment(volumes, rng))

    def loss(self, batch: Batch) -> Loss:
        """Return the mean over known labels of cross-entropy, binary cross-entropy or the squared error."""
        outputs, labels = self.head(batch.online[0]), batch.rows["labels"]  # (N, K), and (N,) or (N, L)
        errors, known = self.errors(outputs, labels)
        count = known.sum()
        values = labels.nan_to_num().double() * known
        seen = torch.stack([count.double(), values.sum(), values.square().sum()])
        value = (errors * known).sum() / count.clamp(min=1)
        return Loss(value, weight=count, sums={"seen": seen})

    def after_step(self, progress: float, kept: Kept) -> None:  # noqa: ARG002
        """Update the mean and deviation of the targets, by which those of a regression are standardised."""
        self.get_buffer("seen").add_(kept.sums["seen"])

    def errors(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of each label, and whether it is known: both (N,), or (N, L) for several labels."""
        if self.task is not None and self.task.categorical:
            known = labels >= 0
            return F.cross_entropy(outputs, labels.clamp(min=0), reduction="none"), known
        known, labels = ~labels.isnan(), labels.nan_to_num().to(outputs)
        if self.task is not None and self.task.kind == "multilabel":
            return F.binary_cross_entropy_with_logits(outputs, labels, reduction="none"), known
        return F.mse_loss(outputs[:, 0], self.standardised(labels), reduction="none"), known

    def standardised(self, values: Tensor) -> Tensor:
        """Return targets standardised by the mean and deviation of earlier steps, so that their unit has no effect.

        In the first step, when neither is known, the targets are 0.
        """
        number, total, squares = self.get_buffer("seen")
        mean = total / number.clamp(min=1)
        deviation = (squares / number.clamp(min=1) - mean.square()).clamp(min=0).sqrt()
        found: Tensor = (values - mean) / torch.where(deviation > 0, deviation, 1.0) * (number > 0)
        return found.to(values)

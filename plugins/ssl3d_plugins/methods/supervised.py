"""Supervised: the same encoder, trained from scratch on the labels.

The reference that self-supervised methods should beat, or match with fewer labels. It sees only the labels of training
volumes, in the same views and for as many steps as the other methods; unlabelled volumes are ignored.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.errors import PluginError
from ssl3d.method import Batch, Card, Config, Loss, Method, Rng, Views, Volumes


class Supervised(Method[Config]):
    """One linear layer on the features, and the loss that fits the kind of task."""

    card: ClassVar[Card] = Card(
        name="Supervised",
        summary="trains the encoder on the labels of the training volumes, from scratch",
        departures=("Targets of a regression are predicted in their own unit; those far from 1 need another lr.",),
    )
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

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        """Return one view."""
        return Views(self.augment(volumes, rng))

    def loss(self, batch: Batch) -> Loss:
        """Return the mean over known labels of cross-entropy, binary cross-entropy or the squared error."""
        outputs, labels = self.head(batch.online[0]), batch.rows["labels"]  # (N, K), and (N,) or (N, L)
        errors, known = self.errors(outputs, labels)
        count = known.sum()
        return Loss((errors * known).sum() / count.clamp(min=1), weight=count)

    def errors(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of each label, and whether it is known: both (N,), or (N, L) for several labels."""
        if self.task is not None and self.task.categorical:
            known = labels >= 0
            return F.cross_entropy(outputs, labels.clamp(min=0), reduction="none"), known
        known, labels = ~labels.isnan(), labels.nan_to_num().to(outputs)
        if self.task is not None and self.task.kind == "multilabel":
            return F.binary_cross_entropy_with_logits(outputs, labels, reduction="none"), known
        return F.mse_loss(outputs[:, 0], labels, reduction="none"), known

"""Rotation: unsupervised representation learning by predicting image rotations (Gidaris et al. 2018).

https://arxiv.org/abs/1803.07728. A view is rotated by 0, 90, 180 and 270 degrees about the slice axis, and the network
predicts the angle, for which it must know where anatomy is located.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from ssl3d.method import Batch, Card, Config, Loss, Method, Rng, Views, Volumes
from ssl3d.parts.quarter_turns import TURNS, square_slices, square_views


class Rotation(Method[Config]):
    """Rotation of volumes in the plane of their slices: the four turns of a view are its views."""

    card: ClassVar[Card] = Card(
        name="Rotation",
        summary="finds by how many quarter turns about the slice axis a volume was rotated",
        paper="Gidaris et al., Unsupervised Representation Learning by Predicting Image Rotations",
        year=2018,
        link="https://arxiv.org/abs/1803.07728",
        departures=(
            "Views are crops with intensity changes, square in the plane; the paper has random flips and shifts.",
            "No view is flipped along H, for that and a flip along W make a half turn; at most 30 degrees of random "
            "rotation are left.",
            "The head is one linear layer on the backbone's features; the paper's is the end of its network.",
            "Optimiser, learning rate and batch are the recipe's, not the paper's (SGD, batches of 128).",
        ),
    )
    coupled = False

    def build(self) -> None:
        """Make the head, and square views without augmentations that resemble a quarter turn."""
        self.augment = square_views(self.augment, self.backbone)
        self.head = nn.Linear(self.backbone.embed_dim, TURNS)

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        """Return a view (B, C, D, S, S) rotated by 0, 1, 2 and 3 quarter turns, in the direction of ``Augment``."""
        view = self.augment(square_slices(volumes, rng), rng)
        return Views(*(torch.rot90(view, turn, (4, 3)) for turn in range(TURNS)))

    def loss(self, batch: Batch) -> Loss:
        """Return the mean cross-entropy of the four rotations (equation 3 of the paper)."""
        logits = self.head(torch.stack(batch.online, dim=1)).flatten(0, 1)  # (4 N, 4)
        turns = torch.arange(TURNS, device=logits.device).repeat(len(logits) // TURNS)
        accuracy = (logits.argmax(dim=1) == turns).to(logits.dtype).mean()
        return Loss(F.cross_entropy(logits, turns), scalars={"accuracy": accuracy})

"""Pretrained: the backbone with weights of one's choice, evaluated as they are, in a row of its own.

The weights follow a colon: a name that the backbone publishes (``pretrained:kinetics400``) or a file
(``pretrained:runs/NAME/encoders/ENCODER/encoder.safetensors``, ``pretrained:resnet.pth``).
"""

from __future__ import annotations

from typing import ClassVar

from ssl3d.method import Batch, Card, Config, Loss, Method


class Pretrained(Method[Config]):
    """An encoder as it was published, or as it was left by an earlier pretraining."""

    card: ClassVar[Card] = Card(
        name="Pretrained",
        summary="encoder with published weights (pretrained:NAME) or a file's (pretrained:FILE)",
    )
    trains = False
    family = True

    def loss(self, batch: Batch) -> Loss:
        """Raise: there is nothing to train."""
        raise NotImplementedError(f"{self.card.name} is evaluated as it is built; it has no loss")

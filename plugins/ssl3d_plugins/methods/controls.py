"""Controls, one row each in every table: encoders that are not trained here."""

from __future__ import annotations

from typing import ClassVar

from ssl3d.method import Batch, Card, Config, Loss, Method


class _Untrained(Method[Config]):
    """An encoder evaluated without training."""

    trains = False
    control = True

    def loss(self, batch: Batch) -> Loss:
        """Raise: there is nothing to train."""
        raise NotImplementedError(f"{self.card.name} is evaluated as it is built; it has no loss")


class Random(_Untrained):
    """A freshly initialised encoder: what the architecture alone gives."""

    card: ClassVar[Card] = Card(name="Random", summary="untrained encoder: what the architecture alone gives")


class Kinetics(_Untrained):
    """An encoder with Kinetics-400 weights: what supervised video pretraining gives."""

    card: ClassVar[Card] = Card(
        name="Kinetics-400",
        summary="encoder with Kinetics-400 weights: what supervised video pretraining gives",
        paper="Kay et al., The Kinetics Human Action Video Dataset",
        year=2017,
        link="https://arxiv.org/abs/1705.06950",
        departures=(
            "The stem is folded to one channel: the same function of a grey volume, a third of the work.",
            "Volumes are standardised by their own mean and deviation, not by those of Kinetics' colours.",
        ),
    )
    initial_weights = "kinetics400"


class ImageNet(_Untrained):
    """A slice encoder with ImageNet weights: what supervised pretraining on photographs gives."""

    card: ClassVar[Card] = Card(
        name="ImageNet",
        summary="slice encoder (timm/...) with ImageNet weights: what pretraining on photographs gives",
        paper="Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge",
        year=2014,
        link="https://arxiv.org/abs/1409.0575",
        departures=("Volumes are standardised by their own mean and deviation, not by those of ImageNet's colours.",),
    )
    initial_weights = "imagenet"


class Voxels(_Untrained):
    """The volume itself in place of features: what a table shows without any encoder."""

    card: ClassVar[Card] = Card(
        name="Voxels",
        summary="the volume averaged to 8 x 16 x 16 in place of features: no encoder at all",
        departures=(
            "Penalised regression on averaged voxels, not on their principal components: nothing to fit first.",
        ),
    )
    own_backbone = "voxel_grid"


class Statistics(_Untrained):
    """Intensities and the size of the foreground in place of features: how far the simplest explanation goes."""

    card: ClassVar[Card] = Card(
        name="Statistics", summary="intensities, and size and shape of the foreground, in place of features"
    )
    own_backbone = "volume_statistics"

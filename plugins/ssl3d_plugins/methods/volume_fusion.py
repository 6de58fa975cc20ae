"""Volume Fusion: pretraining by segmenting a fused volume (Wang et al. 2023), https://arxiv.org/abs/2306.16925.

Boxes of a foreground crop are blended into a background crop, each box with one of K weights. Encoder and decoder find
the weight of every voxel, a segmentation without labels, for which they must distinguish inserted from original
anatomy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl3d.config import Ordered
from ssl3d.method import Batch, Card, Config, Field, Loss, Method, Rng, Rows, Views, Volumes
from ssl3d.parts.decoder import DecoderWidth, UNetDecoder, map_shapes

SMALLEST, LARGEST = np.array([8 / 64, 8 / 128, 8 / 128]), np.array([40 / 64, 80 / 128, 80 / 128])  # sides of a box
Count = Annotated[int, Field(ge=1)]
SMOOTH = 1e-5  # added to both parts of the Dice score


class VolumeFusionConfig(Config):
    """Settings of Volume Fusion."""

    weights: int = Field(4, ge=1, le=255, description="weights K of the foreground: 1/K, 2/K, ..., 1")
    boxes: Annotated[tuple[Count, Count], Ordered] = Field((10, 40), description="smallest and largest number of boxes")
    decoder_width: DecoderWidth = Field(
        "auto", description="channels of the decoder at the coarsest map; auto: the map's own, at most 512"
    )


class VolumeFusion(Method[VolumeFusionConfig]):
    """Volume Fusion on two crops of one volume."""

    card: ClassVar[Card] = Card(
        name="Volume Fusion",
        summary="segments a crop by how much of another crop of the volume was blended in",
        paper="Wang et al., MIS-FM: 3D Medical Image Segmentation using Foundation Models Pretrained on a Large-Scale "
        "Unannotated Dataset",
        year=2023,
        link="https://arxiv.org/abs/2306.16925",
        departures=(
            "Foreground and background are two crops of one volume, in the paper of two volumes: volumes that touch "
            "each other would make the result depend on the split of a batch.",
            "Dice scores are those of each volume, in the authors' code of a batch.",
            "Views have the recipe's crops and intensity changes; the authors' code crops and flips.",
            "Any backbone is the encoder, with a light decoder; the paper trains a network for segmentation.",
            "Optimiser, learning rate and batch are the recipe's, not the paper's (Adam, batches of 4).",
        ),
    )
    preset: ClassVar[Mapping[str, Any]] = {"pretrain": {"weight_decay": 1e-5}}
    coupled = False

    def build(self) -> None:
        """Make the decoder."""
        shapes = map_shapes(self.backbone, self.augment.size)
        classes = self.config.weights + 1
        self.decoder = UNetDecoder(shapes, self.augment.size, classes, self.config.decoder_width)

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        """Return the fused view (B, C, D, H, W), and the class of each voxel (B, D, H, W)."""
        background, foreground = self.augment(volumes, rng), self.augment(volumes, rng)
        classes = self.classes(rng)
        weight = classes[:, None] / self.config.weights
        return Views(weight * foreground + (1 - weight) * background, classes=classes)

    def classes(self, rng: Rng) -> Tensor:
        """Return the class (B, D, H, W) of each voxel: that of the last box that holds it, or 0."""
        size, (fewest, most) = self.augment.size, self.config.boxes
        count = rng.numbers(fewest, most + 1).astype(np.int64)  # (B,)
        drawn = 1 + rng.numbers(0, self.config.weights, count=most).astype(np.int64)  # (B, most)
        sides, centres = (rng.numbers(count=3 * most).reshape(-1, most, 3) for _ in range(2))
        low, high = (np.maximum(1, np.rint(share * size)).astype(np.int64) for share in (SMALLEST, LARGEST))
        side = low + (sides * (high - low + 1)).astype(np.int64)
        start = (centres * size).astype(np.int64) - side // 2
        classes = np.zeros((len(rng), *size), np.uint8)
        for volume, boxes in enumerate(count):
            for first, length, value in zip(start[volume, :boxes], side[volume, :boxes], drawn[volume], strict=False):
                d, h, w = map(slice, np.maximum(first, 0), first + length)  # what lies beyond the view is cut off
                classes[volume, d, h, w] = value
        return torch.from_numpy(classes).to(rng.device).long()

    def online(self, view: Tensor, rows: Rows) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the coarsest map (B, F, d, h, w), and scores (B, K + 1, D, H, W) of the classes."""
        maps = self.backbone.forward_features(view)
        return {"map": maps[-1], "logits": self.decoder(maps)}

    def loss(self, batch: Batch) -> Loss:
        """Return the mean of cross-entropy and soft Dice loss, the latter per volume and class."""
        logits, classes = batch.online_maps[0]["logits"], batch.rows["classes"]
        entropy = F.cross_entropy(logits, classes)
        dice = 1 - dice_scores(logits.softmax(dim=1), classes).mean()
        return Loss((entropy + dice) / 2, scalars={"cross_entropy": entropy, "dice_loss": dice})


def dice_scores(probabilities: Tensor, classes: Tensor) -> Tensor:
    """Return the soft Dice score of each volume and class, (N, K).

    Args:
        probabilities: (N, K, D, H, W).
        classes: (N, D, H, W), indices of the true classes.
    """
    truth = F.one_hot(classes, probabilities.shape[1]).movedim(-1, 1).to(probabilities.dtype)  # (N, K, D, H, W)
    common, both = (one.sum(dim=(2, 3, 4)) for one in (probabilities * truth, probabilities + truth))
    return (2 * common + SMOOTH) / (both + SMOOTH)

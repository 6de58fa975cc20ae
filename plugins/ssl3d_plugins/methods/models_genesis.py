"""Models Genesis: generic autodidactic models for 3D medical image analysis (Zhou et al. 2019).

https://arxiv.org/abs/1908.06912. A crop is corrupted: voxels are shuffled within small windows, intensities pass a
random curve, and blocks, or all but some blocks, become noise. Encoder and decoder restore the crop, for which they
must know the texture, the contrast and the context of anatomy. Each corruption is applied with a chance of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ssl3d.data.corruption import box_mask, intensity_curve, map_intensities, shuffle_windows
from ssl3d.method import Batch, Card, Config, Field, Loss, Method, Rng, Rows, Views, Volumes
from ssl3d.parts.decoder import DecoderWidth, UNetDecoder, map_shapes

BLOCKS, MARGIN = 5, 3  # most blocks of a painting, and their distance from the edge in voxels


class ModelsGenesisConfig(Config):
    """Settings of Models Genesis."""

    shuffle: float = Field(0.5, ge=0, le=1, description="chance of shuffling voxels within windows")
    windows: int = Field(10_000, ge=1, description="windows to shuffle, each at most a tenth of a view long")
    curve: float = Field(0.9, ge=0, le=1, description="chance of a nonlinear change of intensities")
    paint: float = Field(0.9, ge=0, le=1, description="chance of painting blocks with noise")
    inner: float = Field(0.2, ge=0, le=1, description="share of in-painting among paintings; the rest is out-painting")
    more: float = Field(0.95, ge=0, le=1, description="chance of one more block, up to five")
    decoder_width: DecoderWidth = Field(
        "auto", description="channels of the decoder at the coarsest map; auto: the map's own, at most 512"
    )


class ModelsGenesis(Method[ModelsGenesisConfig]):
    """Models Genesis, the four corruptions combined."""

    card: ClassVar[Card] = Card(
        name="Models Genesis",
        summary="restores a crop that was shuffled, recoloured and painted over",
        paper="Zhou et al., Models Genesis: Generic Autodidactic Models for 3D Medical Image Analysis",
        year=2019,
        link="https://arxiv.org/abs/1908.06912",
        departures=(
            "Intensities are scaled to [0, 1] by the range of each view, in the paper by fixed Hounsfield units; the "
            "encoder sees the corrupted view in its original units, as it sees volumes in an evaluation.",
            "Crops, rotations and flips are the recipe's; the paper has flips along all axes.",
            "Any backbone is the encoder, and the decoder has one skip connection per map, which is added; the paper "
            "trains a 3D U-Net, whose skip connections are concatenated.",
            "Optimiser, learning rate and batch are the recipe's, not the paper's (SGD, batches of 6).",
        ),
    )
    preset: ClassVar[Mapping[str, Any]] = {
        "augment": {"brightness": 0.0, "contrast": 0.0, "gamma": 0.0, "blur": 0.0, "noise": 0.0}  # a clean target
    }
    coupled = False
    online_views = (0,)
    target_views = (1,)

    def build(self) -> None:
        """Make the decoder."""
        shapes = map_shapes(self.backbone, self.augment.size)
        self.decoder = UNetDecoder(shapes, self.augment.size, 1, self.config.decoder_width)

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        """Return a corrupted view, and the same view clean, scaled to [0, 1]."""
        view = self.augment(volumes, rng)
        low, high = view.amin((1, 2, 3, 4), keepdim=True), view.amax((1, 2, 3, 4), keepdim=True)
        span = torch.where(high > low, high - low, 1.0)
        clean = (view - low) / span
        corrupted = self.painted(self.curved(self.shuffled(clean, rng), rng), rng)
        return Views(corrupted * span + low, clean)

    def online(self, view: Tensor, rows: Rows) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the coarsest map (B, F, d, h, w) and the restored view (B, 1, D, H, W)."""
        maps = self.backbone.forward_features(view)
        return {"map": maps[-1], "voxels": self.decoder(maps).sigmoid()}

    def target(self, view: Tensor, rows: Rows) -> Tensor:  # noqa: ARG002
        """Return the clean view (B, 1, D, H, W)."""
        return view

    def loss(self, batch: Batch) -> Loss:
        """Return the mean squared error over all voxels."""
        return Loss(F.mse_loss(batch.online_maps[0]["voxels"], batch.target[0]))

    def shuffled(self, clean: Tensor, rng: Rng) -> Tensor:
        """Return views (B, C, D, H, W), some of them with voxels shuffled within windows."""
        chosen, generators = rng.numbers() < self.config.shuffle, rng.generators()
        rows = zip(clean, chosen, generators, strict=True)
        return torch.stack(
            [shuffle_windows(one, self.config.windows, draws) if yes else one for one, yes, draws in rows]
        )

    def curved(self, clean: Tensor, rng: Rng) -> Tensor:
        """Return views (B, C, D, H, W), some of them with their intensities mapped by a curve each."""
        chosen, rising, points = rng.bernoulli(self.config.curve), rng.numbers() < 0.5, rng.numbers(count=4)
        curves = np.stack([intensity_curve(*row) for row in zip(points, rising, strict=True)]).astype(np.float32)
        mapped = map_intensities(clean, torch.from_numpy(curves).to(clean.device))
        return torch.where(chosen.view(-1, 1, 1, 1, 1), mapped, clean)

    def painted(self, clean: Tensor, rng: Rng) -> Tensor:
        """Return views (B, C, D, H, W), some of them with noise inside, or outside, of a few blocks."""
        size = (clean.shape[2], clean.shape[3], clean.shape[4])
        chosen, inner = rng.bernoulli(self.config.paint), rng.numbers() < self.config.inner
        more = np.logical_and.accumulate(rng.numbers(count=BLOCKS) < self.config.more, axis=1)  # (B, 5)
        outer = np.concatenate([np.ones_like(more[:, :1]), more[:, :-1]], axis=1)  # out-painting keeps at least one
        sides, starts = (rng.numbers(count=3 * BLOCKS).reshape(-1, BLOCKS, 3) for _ in range(2))
        masks = box_mask(*blocks(sides, starts, inner, size), size, clean.device)  # (B, 5, D, H, W)
        present = torch.from_numpy(np.where(inner[:, None], more, outer)).to(clean.device)
        inside = (masks & present[:, :, None, None, None]).any(dim=1, keepdim=True)  # (B, 1, D, H, W)
        noisy = inside == torch.from_numpy(inner).to(clean.device).view(-1, 1, 1, 1, 1)
        noise = [torch.rand(clean.shape[1:], generator=draws, device=clean.device) for draws in rng.generators()]
        return torch.where(chosen.view(-1, 1, 1, 1, 1) & noisy, torch.stack(noise), clean)


def blocks(
    sides: NDArray[np.float64], starts: NDArray[np.float64], inner: NDArray[np.bool_], size: tuple[int, int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return first voxels and sides of blocks, both (B, 5, 3).

    Sides are a sixth to a third of the view's for in-painting, and three to four sevenths for out-painting.

    Args:
        sides: draws from [0, 1) for the sides, (B, 5, 3).
        starts: draws from [0, 1) for the first voxels, (B, 5, 3).
        inner: whether a view is in-painted, (B,).
        size: (D, H, W) of a view.
    """
    whole = np.array(size)
    low = np.where(inner[:, None, None], whole // 6, whole - 4 * whole // 7)
    high = np.where(inner[:, None, None], whole // 3, whole - 3 * whole // 7)
    side = np.maximum(low + (sides * (high - low + 1)).astype(np.int64), 1)
    margin = np.minimum(MARGIN, (whole - side) // 2)  # a view may have few slices
    return margin + (starts * (whole - side - 2 * margin + 1)).astype(np.int64), side

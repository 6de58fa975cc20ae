"""One view of a batch of volumes: parameters are drawn first, then applied by deterministic functions.

Volumes are processed one by one. A view thus has the same bits in any batch, ragged shapes need no padding, and on a
CPU a view stays in the cache from its first operation to its last.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl3d.data import intensity
from ssl3d.data.geometry import Crop, Size, depth_box, depth_weights, resample
from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes
from ssl3d.recipe import AugmentRecipe


@dataclass(frozen=True)
class Geometry:
    """The positions of B views within their volumes.

    Attributes:
        box: (B, 3, 2) float32, start and end along D, H, W as fractions of the volume, before rotation and flips. Along
            D, a view that steps over a gap (``depth_gap``) includes both ends of the volume: [0, 1].
        flip: (B, 3) booleans, along D, H, W.
        angle: (B,) float32, in-plane rotation about the centre of the box, radians.
    """

    box: Tensor
    flip: Tensor
    angle: Tensor


class Augment:
    """The augmentation that makes a view: a random crop, resampled once, with intensity changes.

    Args:
        recipe: settings; see :class:`ssl3d.recipe.AugmentRecipe`.
        size: (D, H, W) of a view.
    """

    def __init__(self, recipe: AugmentRecipe | None = None, size: Size = (16, 112, 112)) -> None:
        self.recipe = recipe or AugmentRecipe()
        self.size = size

    def __call__(self, volumes: Volumes, rng: Rng) -> Tensor:
        """Return views (B, C, D, H, W), float32, standardised by each volume's mean and standard deviation.

        The volumes have the same number of channels and device, but individual shapes. The result is bitwise equal for
        the same volume, (seed, step, position) and device, however the batch is split.
        """
        return self._apply(draw_views(self.recipe, rng, self.size[0]), volumes)

    def draw(self, volumes: Volumes, rng: Rng) -> tuple[Tensor, Geometry]:
        """Return the views that a call returns with the same draws, and their positions in the volumes."""
        views = draw_views(self.recipe, rng, self.size[0])
        box = torch.tensor([view.box() for view in views], dtype=torch.float32, device=volumes.device)  # (B, 3, 2)
        flip = torch.tensor([view.flip for view in views], device=volumes.device)  # (B, 3)
        angle = torch.tensor([view.angle for view in views], dtype=torch.float32, device=volumes.device)  # (B,)
        return self._apply(views, volumes), Geometry(box, flip, angle)

    def replace(self, size: Size | None = None, **changes: Any) -> Self:
        """Return another augmentation, for example for the small crops of a multi-crop method.

        >>> local = self.augment.replace(size=(8, 48, 48), crop=(0.05, 0.4))

        Args:
            size: (D, H, W) of its views; unchanged if None.
            changes: new values of recipe fields.

        Raises:
            RecipeError: a field is unknown or out of bounds.
        """
        other = copy.copy(self)
        other.recipe = AugmentRecipe.checked({**self.recipe.model_dump(), **changes}, "augment")
        other.size = size or self.size
        return other

    def _apply(self, views: Sequence[View], volumes: Volumes) -> Tensor:
        scale = intensity.inverse(volumes.std)  # (B,)
        rows = zip(views, volumes.voxels, volumes.mean * scale, scale, strict=True)
        shape = (len(volumes), volumes.voxels[0].shape[0], *self.size)
        out = torch.empty(shape, dtype=torch.float32, device=volumes.device)
        with torch.no_grad(), torch.autocast(volumes.device.type, enabled=False):
            made = torch.empty_like(out[0])  # not a row of `out`: rounding in kernels depends on memory alignment
            for i, (view, *row) in enumerate(rows):
                view.into(made, *row)
                out[i] = made
        return out


@dataclass(frozen=True)
class View:
    """All draws for one view; 0 (or 1 for factors) if a change is off.

    Attributes:
        height, width: of the crop, as fractions of the volume's.
        y, x: of the crop's first row and column, as fractions of the free range.
        depth: fraction of the slices kept.
        start: start of the kept part, see :func:`ssl3d.data.geometry.depth_weights`.
        angle: rotation in radians.
        flip: along D, H, W.
        gamma: exponent.
        contrast: factor.
        brightness: shift, in standard deviations of the volume.
        sigma: standard deviation of the blur, in voxels of the view.
        noise: standard deviation of the noise.
        noise_places: positions in the noise table, see :func:`ssl3d.data.intensity.noise`.
        dropped: slices of the view that are dropped.
    """

    height: float = 1.0
    width: float = 1.0
    y: float = 0.0
    x: float = 0.0
    depth: float = 1.0
    start: float = 0.0
    angle: float = 0.0
    flip: tuple[bool, bool, bool] = (False, False, False)
    gamma: float = 1.0
    contrast: float = 1.0
    brightness: float = 0.0
    sigma: float = 0.0
    noise: float = 0.0
    noise_places: tuple[float, float] = (0.0, 0.0)
    dropped: tuple[int, ...] = ()

    def of(self, voxels: Tensor, mean: Tensor, std: Tensor, size: Size) -> Tensor:
        """Return this view (C, D, H, W) of a volume (C, D0, H0, W0), given its scalar mean and standard deviation."""
        out = torch.empty(voxels.shape[0], *size, dtype=torch.float32, device=voxels.device)
        scale = intensity.inverse(std)
        self.into(out, voxels, mean * scale, scale)
        return out

    def into(self, out: Tensor, voxels: Tensor, shift: Tensor, scale: Tensor) -> None:
        """Write this view into a tensor that stays in the cache from the first operation to the last.

        Args:
            out: (C, D, H, W), contiguous float32.
            voxels: (C, D0, H0, W0).
            shift: a scalar, subtracted after the voxels are scaled.
            scale: a scalar, by which the voxels are multiplied.
        """
        weights = depth_weights(out.shape[1], voxels.shape[1], self.depth, self.start, self.flip[0])
        resample(voxels, weights, self._crop(voxels.shape[2], voxels.shape[3]), out, scale)
        out.sub_(shift)
        if self.gamma != 1:
            intensity.gamma(out, self.gamma)
        if self.contrast != 1 or self.brightness != 0:
            intensity.contrast(out, self.contrast, self.brightness)
        if self.sigma > 0:
            intensity.blur(out, self.sigma)
        if self.noise > 0:
            intensity.noise(out, self.noise, self.noise_places)
        intensity.drop_slices(out, self.dropped)

    def box(self) -> tuple[tuple[float, float], ...]:
        """Return start and end along D, H, W as fractions of the volume."""
        top, left = self.y * (1 - self.height), self.x * (1 - self.width)
        return depth_box(self.depth, self.start), (top, top + self.height), (left, left + self.width)

    def _crop(self, H: int, W: int) -> Crop:
        h, w = self.height * H, self.width * W
        return Crop(
            centre=(self.y * (H - h) + h / 2, self.x * (W - w) + w / 2),
            extent=(-h if self.flip[1] else h, -w if self.flip[2] else w),
            angle=self.angle,
        )


def draw_views(recipe: AugmentRecipe, rng: Rng, slices: int) -> list[View]:
    """Draw one view per volume.

    Every number is drawn whether used or not, so that turning off one change does not affect the others.

    Args:
        recipe: ranges and probabilities.
        rng: source of the draws.
        slices: number of slices of the view.
    """
    height, width = _shares(recipe, rng)
    y, x = rng.numbers(), rng.numbers()
    depth, start = rng.numbers(*recipe.depth), rng.numbers()
    if not recipe.depth_gap:
        start = start * (1 - depth)  # the kept part ends before the last slice
    angle = np.radians(recipe.rotate) * rng.numbers(-1, 1)
    flip = np.stack([rng.numbers() < p for p in recipe.flip], axis=1)  # (B, 3)
    exponent = (1 + recipe.gamma) ** rng.numbers(-1, 1)
    contrast = 1 + recipe.contrast * rng.numbers(-1, 1)
    brightness = recipe.brightness * rng.numbers(-1, 1)
    sigma = np.where(rng.numbers() < recipe.blur, rng.numbers(*recipe.blur_sigma), 0.0)
    noise = recipe.noise * rng.numbers()
    places = rng.numbers(count=2)  # (B, 2)
    count = np.rint(recipe.slice_dropout * rng.numbers() * slices).astype(int)
    order = rng.numbers(count=slices).argsort(axis=1)  # (B, slices)
    return [
        View(
            height=float(height[i]),
            width=float(width[i]),
            y=float(y[i]),
            x=float(x[i]),
            depth=float(depth[i]),
            start=float(start[i]),
            angle=float(angle[i]),
            flip=(bool(flip[i, 0]), bool(flip[i, 1]), bool(flip[i, 2])),
            gamma=float(exponent[i]),
            contrast=float(contrast[i]),
            brightness=float(brightness[i]),
            sigma=float(sigma[i]),
            noise=float(noise[i]),
            noise_places=(float(places[i, 0]), float(places[i, 1])),
            dropped=tuple(order[i, : count[i]].tolist()),
        )
        for i in range(len(rng))
    ]


def _shares(recipe: AugmentRecipe, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Draw the height and width (B,) of the crops, as fractions of the volume's.

    The area is uniform; the aspect ratio is log-uniform within the range in which neither exceeds 1.
    (torchvision's RandomResizedCrop instead draws again, up to ten times.)
    """
    area = rng.numbers(*recipe.crop)
    low, high = (np.clip(bound, area, 1 / area) for bound in recipe.aspect)
    aspect = np.exp(np.log(low) + rng.numbers() * (np.log(high) - np.log(low)))
    return np.minimum(np.sqrt(area * aspect), 1), np.minimum(np.sqrt(area / aspect), 1)


def whole(volumes: Volumes, size: Size) -> Tensor:
    """Return the whole volumes (B, C, D, H, W) at one size, standardised, without randomness, for evaluation.

    Linear interpolation; against aliasing, widened along each axis by its shrink factor (a triangle filter).
    """
    out = torch.empty(len(volumes), volumes.voxels[0].shape[0], *size, device=volumes.device)
    with torch.no_grad(), torch.autocast(volumes.device.type, enabled=False):
        for i, voxels in enumerate(volumes.voxels):
            weights = torch.from_numpy(depth_weights(size[0], voxels.shape[1])).to(volumes.device)
            mixed = (weights @ voxels.flatten(2).float()).view(-1, size[0], *voxels.shape[2:])  # (C, D, H0, W0)
            view = F.interpolate(mixed, size=size[1:], mode="bilinear", antialias=True, align_corners=False)
            out[i] = intensity.standardise(view, volumes.mean[i], volumes.std[i])
    return out

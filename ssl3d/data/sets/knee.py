"""A generated knee: shapes given by formulas in continuous space, drawn on any grid. Synthetic, for software tests.

Space is x from side to side, y from back to front, z from bottom to top, each in [-1, 1]. A sagittal volume is drawn
as (x, -z, y), a coronal one as (y, -z, x), an axial one as (z, -y, x): slices, rows, columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

Grid = tuple[np.ndarray, np.ndarray, np.ndarray]  # x, y, z, broadcastable to (D, H, W)
ORDERS: Final = {"sagittal": "xzy", "coronal": "yzx", "axial": "zyx"}
TEXTURE_WAVES = 24


@dataclass(frozen=True)
class Lesions:
    """The lesions of a knee.

    Attributes:
        acl: the ligament is interrupted, with a bright spot in the gap.
        meniscus: a bright line runs through one horn of the meniscus.
        effusion: fluid above the joint.
    """

    acl: bool
    meniscus: bool
    effusion: bool


def draw(lesions: Lesions, seed: Sequence[int], plane: str, shape: tuple[int, int, int]) -> np.ndarray:
    """Return a knee (D, H, W), uint8, spanning 0 to 255 as MRNet's volumes do.

    Args:
        lesions: lesions of the knee.
        seed: decides the anatomy, which is the same in every plane and at every size.
        plane: plane of the slices.
        shape: shape of the grid.
    """
    rng = np.random.default_rng(seed)  # the draws below have the same order for all lesions
    grid = _grid(plane, shape)
    placed = _placed(grid, rng)
    tissue = _bones(placed, rng) + np.float32(0.06) * _texture(grid, plane, rng)
    tissue = tissue + _ligament(placed, rng, lesions.acl)
    tissue = tissue + _menisci(placed, rng, lesions.meniscus)
    tissue = tissue + _fluid(placed, rng, lesions.effusion) + _vessels(placed, rng)
    noise = np.random.default_rng([*seed, 1 + list(ORDERS).index(plane)])  # never 0: [a] and [a, 0] are the same seed
    return _scanned(tissue, grid, rng, noise)


def _grid(plane: str, shape: tuple[int, int, int]) -> Grid:
    """Return x, y, z at the voxel centres; rows run downwards, or backwards."""
    order = ORDERS[plane]
    axes = {}
    for axis, (letter, count) in enumerate(zip(order, shape, strict=True)):
        centres = (2 * np.arange(count, dtype=np.float32) + 1) / count - 1
        centres = -centres if axis == 1 else centres
        axes[letter] = centres.reshape([-1 if other == axis else 1 for other in range(3)])
    return axes["x"], axes["y"], axes["z"]


def _placed(grid: Grid, rng: np.random.Generator) -> Grid:
    """Shift, rotate and scale the knee within the scanner."""
    x, y, z = (axis - np.float32(shift) for axis, shift in zip(grid, rng.uniform(-0.17, 0.17, 3), strict=True))
    angle, scale = rng.uniform(-0.3, 0.3), np.float32(rng.uniform(0.88, 1.12))
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * scale, (cos * y - sin * z) * scale, (sin * y + cos * z) * scale


def _ball(grid: Grid, centre: np.ndarray, radii: np.ndarray, edge: float) -> np.ndarray:
    """Return 1 inside an ellipsoid, 0 outside, with an edge of the given relative width."""
    distance = np.sqrt(_squared_distance(grid, centre, radii))
    ball: np.ndarray = np.clip((1 - distance) / np.float32(edge) + np.float32(0.5), 0, 1)
    return ball


def _blob(grid: Grid, centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return a Gaussian spot of height 1."""
    blob: np.ndarray = np.exp(-_squared_distance(grid, centre, radii))
    return blob


def _squared_distance(grid: Grid, centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return the squared distance from a point, in units of the radii."""
    parts = zip(grid, centre.astype(np.float32), radii.astype(np.float32), strict=True)
    x, y, z = (((axis - middle) / radius) ** 2 for axis, middle, radius in parts)
    squared: np.ndarray = x + y + z
    return squared


def _bones(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Draw femur, tibia and patella in soft tissue."""
    body = 0.30 * _ball(grid, np.zeros(3), np.array([0.95, 0.9, 1.5]) * rng.uniform(0.92, 1.08), 0.1)
    femur = _ball(grid, np.array([0, -0.05, 0.82]), np.array([0.72, 0.5, 0.5]) * rng.uniform(0.9, 1.1, 3), 0.12)
    tibia = _ball(grid, np.array([0, -0.05, -0.85]), np.array([0.75, 0.5, 0.45]) * rng.uniform(0.9, 1.1, 3), 0.12)
    patella = _ball(grid, np.array([0, 0.68, 0.3]), np.array([0.35, 0.12, 0.28]) * rng.uniform(0.9, 1.1, 3), 0.3)
    marrow = rng.uniform(0.2, 0.35, 3)
    bones: np.ndarray = body + marrow[0] * femur + marrow[1] * tibia + marrow[2] * patella
    return bones


def _texture(grid: Grid, plane: str, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth random field with a standard deviation near 1: a sum of plane waves.

    A plane wave is the product of one factor per axis, so the sum is a matrix product.
    """
    waves = dict(zip("xyz", rng.normal(0, 6, (3, TEXTURE_WAVES)).astype(np.float32), strict=True))
    phases = np.exp(2j * np.pi * rng.random(TEXTURE_WAVES)).astype(np.complex64)
    axes = dict(zip("xyz", grid, strict=True))
    d, h, w = (np.exp(1j * axes[letter].reshape(-1, 1) * waves[letter]) for letter in ORDERS[plane])  # (side, waves)
    field: np.ndarray = ((d[:, None] * h * phases) @ w.T).real  # (D, H, W)
    return field * np.float32(np.sqrt(2 / TEXTURE_WAVES))


def _ligament(grid: Grid, rng: np.random.Generator, torn: bool) -> np.ndarray:
    """Draw the anterior cruciate: an oblique band from the back of the femur to the front of the tibia."""
    top = np.array([0.05, -0.36, 0.42]) + rng.normal(0, 0.03, 3)
    bottom = np.array([-0.05, 0.34, -0.44]) + rng.normal(0, 0.03, 3)
    width, height = rng.uniform(0.10, 0.13), rng.uniform(0.40, 0.50)
    where, gap, spot = rng.uniform(0.35, 0.65), rng.uniform(0.2, 0.3), rng.uniform(0.5, 0.6)
    axis = bottom - top
    projected = sum((c - np.float32(t)) * np.float32(a) for c, t, a in zip(grid, top, axis, strict=True))
    along = np.clip(projected / np.float32(axis @ axis), 0, 1)  # position on the band, 0 to 1
    spread = (2.0, 1.0, 1.0)  # wider from side to side: two or three sagittal slices show it
    away = sum(
        ((c - np.float32(t) - along * np.float32(a)) / np.float32(w * width)) ** 2
        for c, t, a, w in zip(grid, top, axis, spread, strict=True)
    )
    band = np.float32(height) * np.exp(-away)
    if not torn:
        return np.asarray(band)
    band = band * (1 - np.exp(-(((along - np.float32(where)) / np.float32(gap)) ** 2)))
    centre = top + where * axis + np.array([0, 0.12, 0.08])
    fluid = np.float32(spot) * _blob(grid, centre, np.array([0.32, 0.23, 0.23]))
    return np.asarray(band + fluid)


def _menisci(grid: Grid, rng: np.random.Generator, torn: bool) -> np.ndarray:
    """Draw four dark wedges between the bones; a tear is a bright line through one of them."""
    side, horn = rng.choice([-1, 1], 2)
    total: np.ndarray = np.zeros((), np.float32)
    for sx in (-1, 1):
        for sy in (-1, 1):
            centre = np.array([0.48 * sx, 0.34 * sy - 0.05, -0.02]) + rng.normal(0, 0.02, 3)
            slope, bright = rng.uniform(-0.5, 0.5), rng.uniform(0.5, 0.65)
            wedge = _ball(grid, centre, np.array([0.28, 0.2, 0.15]), 0.3)
            total = total - np.float32(0.2) * wedge
            if torn and (sx, sy) == (side, horn):
                _, y, z = grid
                offset = z - np.float32(centre[2]) - np.float32(slope) * (y - np.float32(centre[1]))
                total = total + np.float32(bright) * wedge * np.exp(-((offset / np.float32(0.07)) ** 2))
    return np.asarray(total)


def _fluid(grid: Grid, rng: np.random.Generator, much: bool) -> np.ndarray:
    """Draw joint fluid behind the patella: a little in every knee, more with an effusion."""
    height = rng.uniform(0.3, 0.45) if much else rng.uniform(0.0, 0.12)
    return np.asarray(np.float32(height) * _blob(grid, np.array([0.0, 0.5, 0.55]), np.array([0.4, 0.14, 0.25])))


def _vessels(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Draw bright spots without meaning, so that a lesion is not simply the brightest spot of a volume."""
    total: np.ndarray = np.zeros((), np.float32)
    for _ in range(4):
        centre = rng.uniform(-0.85, 0.85, 3)
        size, height = rng.uniform(0.08, 0.18), rng.uniform(0.2, 0.5)
        total = total + np.float32(height) * _blob(grid, centre, np.full(3, size))
    return np.asarray(total)


def _scanned(tissue: np.ndarray, grid: Grid, rng: np.random.Generator, noise: np.random.Generator) -> np.ndarray:
    """Add the effects of a scanner: a bias field, noise, gain and offset; then convert to uint8 from 0 to 255."""
    slope = rng.normal(0, 0.1, 3).astype(np.float32)
    bias = np.exp(slope[0] * grid[0] + slope[1] * grid[1] + slope[2] * grid[2])
    image = tissue * bias + np.float32(rng.uniform(0.02, 0.04)) * noise.standard_normal(tissue.shape, np.float32)
    image = np.clip(image - np.quantile(image, 0.01), 0, None)
    image = np.clip(image / np.quantile(image, rng.uniform(0.995, 0.9995)), 0, 1) ** rng.uniform(0.8, 1.25)
    image = (image - image.min()) / (image.max() - image.min())
    voxels: np.ndarray = np.rint(255 * image).astype(np.uint8)
    return voxels

"""The views of ssl3d's default recipe as torchio and MONAI make them, each in its usual arrangement and in better ones.

Crop, in-plane rotation, flip, gamma, contrast, brightness, blur (half of the views), noise, standardised. torchio has
no contrast or brightness of this kind, so it goes without. *plain*: each transform in sequence at full resolution and
the resize at the end, as their tutorials do. *best*: the geometry first (cropped and resized, or fused into one
resampling), and the intensities at the size of the view.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ssl3d.data.rng import Rng

Size = tuple[int, int, int]
MakeView = Callable[[Tensor, int], Tensor]  # a volume (1, D, H, W), uint8, and a key that is used once, into a view
KEPT = (0.6, 0.63, 0.63)  # least share of each axis in a crop
INSTALL = "`pip install torchio monai` brings both"


def torchio_views(view: Size) -> dict[str, MakeView]:
    """Return torchio's arrangements by name; raises ModuleNotFoundError without it."""
    tio: Any = importlib.import_module("torchio")
    turn = {"degrees": (-10, 10, 0, 0, 0, 0), "translation": 0}
    flip, resize = tio.RandomFlip(axes=(2,), flip_probability=0.5), tio.Resize(view)
    changes = [tio.RandomGamma((-0.26, 0.26)), tio.ZNormalization()]
    changes += [tio.RandomBlur((0.1, 1.0), p=0.5), tio.RandomNoise(std=(0, 0.1))]
    zoomed = tio.RandomAffine(scales=(1.0, 1.5), **turn)
    plain = tio.Compose([zoomed, flip, *changes, resize])
    best = tio.Compose([resize, tio.RandomAffine(scales=0, **turn), flip, *changes])

    def made(transform: Any, voxels: Tensor) -> Tensor:
        data: Tensor = transform(tio.ScalarImage(tensor=voxels.float())).data
        return data

    return {
        "torchio, plain": lambda voxels, _: made(plain, voxels),
        "torchio, cropped and resized first": lambda voxels, key: made(best, _cropped(voxels, key)),
    }


def monai_views(volume: Size, view: Size) -> dict[str, MakeView]:
    """Return MONAI's arrangements by name; raises ModuleNotFoundError without it."""
    m: Any = importlib.import_module("monai.transforms")
    changes = [m.NormalizeIntensity(), m.RandAdjustContrast(prob=1, gamma=(0.77, 1.3))]
    changes += [m.RandScaleIntensityFixedMean(prob=1, factors=0.3), m.RandShiftIntensity(prob=1, offsets=0.3)]
    in_plane = {"sigma_x": (1e-3, 1e-3), "sigma_y": (0.1, 1.0), "sigma_z": (0.1, 1.0)}
    changes += [m.RandGaussianSmooth(prob=0.5, **in_plane), m.RandGaussianNoise(prob=1, std=0.1)]
    flip, resize = m.RandFlip(prob=0.5, spatial_axis=2), m.Resize(view, mode="trilinear")
    turn = {"prob": 1, "rotate_range": (0.17, 0, 0), "padding_mode": "border"}
    crop = m.RandScaleCrop(KEPT, (1.0, 1.0, 1.0), random_size=True)
    zoom = [(least - 1, 0.0) for least in KEPT]
    # The affine alone can crop and scale: voxels of the volume to one of the view, less 1, within the room left.
    ratios = [(n / k * least - 1, n / k - 1) for n, k, least in zip(volume, view, KEPT, strict=True)]
    onto = {"scale_range": ratios, "translate_range": [n // 8 for n in volume]}
    return {
        "MONAI, plain": _monai(m.Compose([m.RandAffine(scale_range=zoom, **turn), flip, *changes, resize])),
        "MONAI, cropped and resized first": _monai(m.Compose([crop, resize, m.RandAffine(**turn), flip, *changes])),
        "MONAI, lazy (fused)": _monai(
            m.Compose([crop, m.RandAffine(**turn), flip, resize, *changes], lazy=True), meta=True
        ),
        "MONAI, one affine onto the view": _monai(
            m.Compose([m.RandAffine(spatial_size=view, **onto, **turn), flip, *changes])
        ),
    }


def _monai(transform: Any, meta: bool = False) -> MakeView:
    """Return a transform as a function; ``meta``: with metadata, which lazy resampling needs and costs the others."""
    data: Any = importlib.import_module("monai.data")

    def made(voxels: Tensor, _: int) -> Tensor:
        data.set_track_meta(meta)
        view: Tensor = transform(voxels.float())
        return view

    return made


def _cropped(voxels: Tensor, key: int) -> Tensor:
    """A random crop for torchio, which has none that is resized after."""
    draw, shape = Rng(0, key, range(3)).numbers(), voxels.shape[1:]
    lengths = [int(n * (least + (1 - least) * u)) for n, least, u in zip(shape, KEPT, draw, strict=True)]
    first = [int((n - length) * u) for n, length, u in zip(shape, lengths, draw[::-1], strict=True)]
    d, h, w = (slice(a, a + length) for a, length in zip(first, lengths, strict=True))
    return voxels[:, d, h, w]

"""Square views, for methods that predict quarter turns in the plane of the slices (Gidaris et al. 2018).

Anything but anatomy that reveals the turn is removed: the shape of a rectangle, its stretch to a square, and flips and
rotations that resemble a turn.
"""

from __future__ import annotations

from dataclasses import replace

from ssl3d.backbone import Backbone
from ssl3d.data.augment import Augment
from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes

TURNS = 4
MOST = 30.0  # degrees; beyond 45 a view would belong to the next quarter turn


def square_views(augment: Augment, backbone: Backbone) -> Augment:
    """Return an augmentation whose views are square in the plane, but not smaller than the backbone accepts.

    No view is flipped along H, because that and a flip along W make a half turn, and random rotation is limited.

    Args:
        augment: augmentation of the recipe; its other changes are kept.
        backbone: network that encodes the views.
    """
    depth, *plane = augment.size
    side = max(min(plane), *backbone.min_size[1:])
    flip = (augment.recipe.flip[0], 0.0, augment.recipe.flip[2])
    return augment.replace((depth, side, side), flip=flip, rotate=min(augment.recipe.rotate, MOST))


def square_slices(volumes: Volumes, rng: Rng) -> Volumes:
    """Return the largest square of each volume's slices, at a random position along the longer side.

    A rectangle stretched to a square would reveal the rotation by the direction of the stretch.
    """
    cut = []
    for voxels, place in zip(volumes.voxels, rng.numbers().tolist(), strict=True):
        H, W = voxels.shape[2:]
        side = min(H, W)
        top, left = int(place * (H - side + 1)), int(place * (W - side + 1))
        cut.append(voxels[:, :, top : top + side, left : left + side])
    return replace(volumes, voxels=tuple(cut))

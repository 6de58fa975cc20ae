"""Small crops beside the large ones (SwAV, Caron et al. 2020, arXiv 2006.09882, section 3.3)."""

from __future__ import annotations

from ssl3d.backbone import Backbone
from ssl3d.data.augment import Augment
from ssl3d.recipe import ShareRange


def small_crops(augment: Augment, backbone: Backbone, size: float, crop: ShareRange, depth: ShareRange) -> Augment:
    """Return an augmentation that makes small crops, but not smaller than the backbone accepts.

    >>> self.local = small_crops(self.augment, self.backbone, 0.43, (0.05, 0.4), (0.3, 0.6))
    >>> Views(self.augment(volumes, rng), self.augment(volumes, rng), self.local(volumes, rng))

    Args:
        augment: augmentation of the large crops; its intensity changes and flips are kept.
        backbone: network that encodes both.
        size: side of a small crop, as a fraction of a large crop's.
        crop: range of the fraction of the in-plane area that a small crop covers.
        depth: range of the fraction of the slices that it covers.
    """
    least = backbone.min_size
    D, H, W = (max(low, round(size * n)) for low, n in zip(least, augment.size, strict=True))
    return augment.replace((D, H, W), crop=crop, depth=depth)

"""A backbone, built and applied in the ways that its rules look at."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from ssl3d.backbone import Backbone, Norm
from ssl3d.testing.randomness import seeded

ODD = (1, 3, 5)  # voxels above the smallest size: odd, and no two axes alike
EXACT = (0, 0, 0)


class BackboneKit:
    """What rules look at of a backbone's class. Networks are built, and applied, as seldom as possible: they are large.

    Args:
        kind: the class.
        variant: what follows the name in ``family/variant``.
    """

    def __init__(self, kind: type[Backbone], variant: str | None = None) -> None:
        self.kind = kind
        self.variant = variant

    def build(self, norm: Norm = "auto", seed: int = 0) -> Backbone:
        """Return the network in evaluation mode."""
        with seeded(seed):
            return self.kind(self.kind.Config(norm=norm), self.variant).eval()

    @cached_property
    def built(self) -> Backbone:
        """The network with its defaults; not to be changed."""
        return self.build()

    @cached_property
    def maps(self) -> list[Tensor]:
        """Feature maps of :meth:`volumes`, in evaluation mode."""
        with torch.no_grad():
            return self.built.forward_features(self.volumes())

    @cached_property
    def features(self) -> Tensor:
        """Features of :meth:`volumes`, in evaluation mode."""
        with torch.no_grad():
            return self.built(self.volumes())

    def volumes(self, more: tuple[int, int, int] = ODD, count: int = 2) -> Tensor:
        """Return noise (B, 1, D, H, W) of the smallest size and a little more."""
        size = [least + extra for least, extra in zip(self.kind.min_size, more, strict=True)]
        return torch.randn(count, 1, *size, generator=torch.Generator().manual_seed(1))

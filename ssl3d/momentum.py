"""The momentum encoder and its schedule (BYOL, Grill et al. 2020, arXiv 2006.07733, section 3.1)."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class Momentum(nn.Module, Generic[M]):
    """An exponential moving average of a module: initially an exact copy, never trained, moved by :meth:`update`.

    >>> self.teacher = Momentum(self.projector)
    >>> self.teacher(features)

    Floating-point buffers (running statistics) are averaged like weights; others are copied.

    Args:
        source: the module to follow; it remains registered with its owner, not here.
    """

    module: M

    def __init__(self, source: M) -> None:
        super().__init__()
        self.module = copy.deepcopy(source).requires_grad_(False)
        self._source = (source,)  # in a tuple: followed, deep-copied along with its owner, and not registered twice

    if TYPE_CHECKING:

        def __call__(self, *inputs: Tensor) -> Tensor:
            """Return what the averaged module computes."""

    def forward(self, *inputs: Tensor) -> Any:
        """Return what the averaged module computes."""
        return self.module(*inputs)

    @property
    def source(self) -> M:
        """The module being averaged."""
        return self._source[0]

    @torch.no_grad()
    def update(self, momentum: float) -> None:
        """Move towards the source: ``copy = momentum * copy + (1 - momentum) * source``, momentum in [0, 1]."""
        ours: list[Tensor] = list(self.module.parameters())
        theirs: list[Tensor] = list(self.source.parameters())
        torch._foreach_lerp_(ours, theirs, 1.0 - momentum)
        for average, source in zip(self.module.buffers(), self.source.buffers(), strict=True):
            if average.is_floating_point():
                average.lerp_(source, 1.0 - momentum)
            else:
                average.copy_(source)


def cosine_momentum(base: float, progress: float) -> float:
    """Momentum that rises from ``base`` to 1 along half a cosine: 1 - (1 - base)(cos(pi progress) + 1) / 2."""
    return 1.0 - (1.0 - base) * (math.cos(math.pi * progress) + 1.0) / 2.0

"""The momentum encoder and its schedule (BYOL, Grill et al. 2020, arXiv 2006.07733, section 3.1)."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn


class MomentumEncoder(nn.Module):
    """An exponential moving average of modules: exact copies to begin with, never trained, moved by :meth:`update`.

    The copies are attributes under the names they were given, so that they read as modules do:

    >>> momentum = MomentumEncoder(backbone=backbone, projector=projector)
    >>> momentum.backbone(view)

    Floating-point buffers (running statistics) are averaged like weights; others are copied. The sources are
    handed to each update, so that no parameter is registered twice.
    """

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, copy.deepcopy(module).requires_grad_(False))

    @torch.no_grad()
    def update(self, momentum: float, **modules: nn.Module) -> None:
        """Move towards the modules: ``copy = momentum * copy + (1 - momentum) * module``.

        Args:
            momentum: weight of the old value, in [0, 1].
            modules: the sources, under the names given when this was built.
        """
        if modules.keys() != dict(self.named_children()).keys():
            raise ValueError(f"update needs the modules {sorted(dict(self.named_children()))}, got {sorted(modules)}")
        for name, module in modules.items():
            target = self.get_submodule(name)
            ours: list[Tensor] = list(target.parameters())
            theirs: list[Tensor] = list(module.parameters())
            torch._foreach_lerp_(ours, theirs, 1.0 - momentum)
            for ema, source in zip(target.buffers(), module.buffers(), strict=True):
                if ema.is_floating_point():
                    ema.lerp_(source, 1.0 - momentum)
                else:
                    ema.copy_(source)


def cosine_momentum(base: float, progress: float) -> float:
    """Momentum that rises from ``base`` to 1 along half a cosine: 1 - (1 - base)(cos(pi progress) + 1) / 2."""
    return 1.0 - (1.0 - base) * (math.cos(math.pi * progress) + 1.0) / 2.0

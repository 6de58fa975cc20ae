"""The momentum encoder, its schedule (BYOL, Grill et al. 2020, arXiv 2006.07733, section 3.1), and its length."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl3d.budget import Budget, Rule

M = TypeVar("M", bound=nn.Module)
MomentumSetting = Annotated[float, Field(ge=0, le=1)] | Literal["auto"]
# The papers' trainings leave far less: e^-1000 (MoCo, .999 for a million steps), e^-160 (BYOL, .99 for 31,000 steps).
NEGLIGIBLE, NOTICEABLE = 0.01, 0.05  # weight of the initial parameters at the end
AUTO_MOMENTUM = (
    "In a training so short that the paper's momentum would leave more than 1% of the initial weights in the momentum "
    "encoder at its end, the momentum is lower, and leaves 1% (auto)."
)


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


def initial_weight(momentum: float, steps: int, *, cosine: bool) -> float:
    """Return the weight that the initial parameters still have in the momentum encoder after some steps.

    The product of the momentum of all steps: m^K if it is constant. Along :func:`cosine_momentum`, the mean over the
    training of log(a + b cos(pi t)) is log((a + sqrt(a^2 - b^2)) / 2), here 2 log((1 + sqrt(m)) / 2); the factor
    sqrt(m) corrects the sum for its first step, whose momentum is the lowest (Euler and Maclaurin).

    Args:
        momentum: m, at the start.
        steps: K, of the whole training.
        cosine: whether it rises to 1.
    """
    root = math.sqrt(momentum)
    return root * ((1.0 + root) / 2.0) ** (2 * steps) if cosine else float(momentum**steps)


@dataclass(frozen=True)
class AutoMomentum(Rule):
    """The paper's momentum, or the largest (to five digits) that leaves at most 1% of the initial parameters.

    Attributes:
        cosine: whether it rises to 1 along :func:`cosine_momentum`.
    """

    cosine: bool = True

    def auto(self, budget: Budget) -> float:
        """Return the momentum, in [0, paper]; see :meth:`Rule.auto`."""
        if initial_weight(self.paper, budget.steps, cosine=self.cosine) <= NEGLIGIBLE:
            return self.paper
        if self.cosine:  # without the factor sqrt(m) < 1, so that a little less is left
            most = max(0.0, 2.0 * math.exp(math.log(NEGLIGIBLE) / (2 * budget.steps)) - 1.0) ** 2
        else:
            most = math.exp(math.log(NEGLIGIBLE) / budget.steps)
        return min(self.paper, math.floor(most * 1e5) / 1e5)

    def misfit(self, value: float, budget: Budget) -> str:
        """Return how much of the initial parameters is left; see :meth:`Rule.misfit`."""
        left = initial_weight(value, budget.steps, cosine=self.cosine)
        if left <= NOTICEABLE:
            return ""
        return f"leaves {left:.0%} of the initial weights in the momentum encoder after {budget.steps} steps"

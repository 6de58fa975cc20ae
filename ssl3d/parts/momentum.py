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


def linear_momentum(base: float, progress: float) -> float:
    """Momentum that rises linearly from ``base`` to 1."""
    return base + (1.0 - base) * progress


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


def linear_initial_weight(momentum: float, steps: int) -> float:
    """Return what :func:`initial_weight` does, along :func:`linear_momentum`.

    The mean over the training of log(m + (1 - m) t) is -1 - m log(m) / (1 - m); the same factor corrects the sum.
    """
    return math.sqrt(momentum) * math.exp(steps * _mean_log(momentum))


@dataclass(frozen=True)
class AutoMomentum(Rule):
    """The paper's momentum, or the largest (to five digits) that leaves at most 1% of the initial parameters.

    Attributes:
        cosine: whether it rises to 1 along :func:`cosine_momentum`.
    """

    cosine: bool = True

    def auto(self, budget: Budget) -> float:
        """Return the momentum, in [0, paper]; see :meth:`Rule.auto`."""
        if self.left(self.paper, budget.steps) <= NEGLIGIBLE:
            return self.paper
        return min(self.paper, math.floor(self.most(budget.steps) * 1e5) / 1e5)

    def misfit(self, value: float, budget: Budget) -> str:
        """Return how much of the initial parameters is left; see :meth:`Rule.misfit`."""
        left = self.left(value, budget.steps)
        if left <= NOTICEABLE:
            return ""
        return f"leaves {left:.0%} of the initial weights in the momentum encoder after {budget.steps} steps"

    def left(self, momentum: float, steps: int) -> float:
        """Return the weight of the initial parameters after all steps."""
        return initial_weight(momentum, steps, cosine=self.cosine)

    def most(self, steps: int) -> float:
        """Return the largest momentum that leaves at most 1%, or a little less."""
        if self.cosine:  # without the factor sqrt(m) < 1, so that a little less is left
            return max(0.0, 2.0 * math.exp(math.log(NEGLIGIBLE) / (2 * steps)) - 1.0) ** 2
        return math.exp(math.log(NEGLIGIBLE) / steps)


@dataclass(frozen=True)
class AutoLinearMomentum(AutoMomentum):
    """The same for a momentum that rises to 1 along :func:`linear_momentum`."""

    def left(self, momentum: float, steps: int) -> float:
        """Return the weight of the initial parameters after all steps."""
        return linear_initial_weight(momentum, steps)

    def most(self, steps: int) -> float:
        """Return the largest momentum that leaves at most 1%, or a little less; found by bisection."""
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            enough = steps * _mean_log(middle) <= math.log(NEGLIGIBLE)  # without the factor sqrt(m) < 1
            low, high = (middle, high) if enough else (low, middle)
        return low


def _mean_log(momentum: float) -> float:
    """Return the mean over the training of the logarithm of :func:`linear_momentum`."""
    if momentum in (0.0, 1.0):
        return momentum - 1.0
    return -1.0 - momentum * math.log(momentum) / (1.0 - momentum)

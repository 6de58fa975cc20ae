"""Which parameters of a method belong to its momentum encoder, and which online ones they follow.

Found from what a method does, not from its names alone. A parameter belongs to a momentum encoder if it is inside a
:class:`ssl3d.momentum.MomentumEncoder`, or if ``target`` depends on it and ``online`` does not, or if it takes part in the
loss without being trainable, or if ``after_step`` moves it along the line to another parameter.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable
from itertools import takewhile
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ssl3d.method import Method
from ssl3d.momentum import MomentumEncoder
from ssl3d.testing.randomness import seeded

if TYPE_CHECKING:
    from ssl3d.testing.kit import MethodKit, Training


def momentum_parameters(kit: MethodKit) -> dict[str, str | None]:
    """Return, for each parameter of a momentum encoder, the online one that it follows; None if none is like it."""
    training = kit.training
    found = (
        _inside(training.method)
        | _behind_target(kit, copy.deepcopy(training.method).eval())
        | _frozen_in_loss(kit, copy.deepcopy(training.method))
        | _moved_along_a_line(training)
    )
    online = [name for name in training.initial if name not in found]
    return {name: _counterpart(training, name, online) for name in sorted(found)}


def parallel(moved: Tensor, line: Tensor) -> bool:
    """Say whether a change is along a line, in either direction. One number says nothing of directions."""
    if moved.numel() < 2 or not moved.any():
        return False
    return abs(float(torch.cosine_similarity(moved.flatten(), line.flatten(), dim=0))) > 1 - 1e-6


def _inside(method: Method) -> set[str]:
    encoders = [(path, module) for path, module in method.named_modules() if isinstance(module, MomentumEncoder)]
    return {f"{path}.{name}" for path, module in encoders for name, _ in module.named_parameters()}


def _behind_target(kit: MethodKit, method: Method) -> set[str]:
    view = kit.views(method)[0].double()
    if method.target(view) is None:
        return set()
    return _influences(method, lambda: method.target(view)) - _influences(method, lambda: method.online(view))


def _frozen_in_loss(kit: MethodKit, method: Method) -> set[str]:
    frozen = {name for name, parameter in method.named_parameters() if not parameter.requires_grad}
    if not frozen:
        return set()
    with torch.no_grad():
        online, target = kit.features(method)
    return frozen & _influences(method, lambda: method.loss(online, target)["loss"])


@torch.no_grad()
def _influences(method: Method, output: Callable[[], Tensor | None]) -> set[str]:
    """Return the names of the parameters that change an output when they are changed.

    Gradients would not tell: they are cut where a target is detached. Each time all state is put back, for the case
    that computing the output moves it.
    """
    before = copy.deepcopy(method.state_dict())
    expected, found = torch.as_tensor(output()), set()
    for name, parameter in method.named_parameters():
        method.load_state_dict(before)
        with seeded(0):
            parameter.add_(torch.randn_like(parameter))
        if not torch.equal(torch.as_tensor(output()), expected):
            found.add(name)
    return found


def _moved_along_a_line(training: Training) -> set[str]:
    """Trained parameters that ``after_step`` moves along the line to another one: copies that were not frozen."""
    between = training.between
    found = set()
    for name in training.gradients:
        moved = training.final[name] - between[name]
        others = [other for other in training.gradients if other != name and _alike(training, name, other)]
        if any(parallel(moved, between[other] - between[name]) for other in others):
            found.add(name)
    return found


def _counterpart(training: Training, name: str, online: list[str]) -> str | None:
    """Return the online parameter that is most like a momentum one, of its shape and with the end of its name."""
    candidates = [other for other in online if _alike(training, name, other)]
    return max(candidates, key=lambda other: _likeness(training, name, other), default=None)


def _alike(training: Training, name: str, other: str) -> bool:
    same_end = name.rpartition(".")[2] == other.rpartition(".")[2]
    return same_end and training.initial[name].shape == training.initial[other].shape


def _likeness(training: Training, name: str, other: str) -> tuple[int, bool, float]:
    """How alike two parameters are: by levels of their names in common from the end, by value, by the letters."""
    ends = zip(reversed(name.split(".")), reversed(other.split(".")), strict=False)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], ends))
    equal = torch.equal(training.initial[name], training.initial[other])
    return common, equal, difflib.SequenceMatcher(None, name, other).ratio()

"""Which parameters of a method belong to its momentum encoder, and which online ones they follow.

Found from what a method does, not from its names alone. A parameter belongs to a momentum encoder if it is inside a
:class:`ssl3d.parts.momentum.Momentum`, or if ``target`` depends on it and ``online`` does not, or if the loss depends
on it without training it and ``online`` does not, or if ``after_step`` moves it along the line to another parameter;
and if there is an online parameter of its shape and with the end of its name.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import takewhile

import torch
from torch import Tensor

from ssl3d.method import AnyMethod, Features
from ssl3d.parts.momentum import Momentum
from ssl3d.testing.kit import MethodKit, Training
from ssl3d.testing.randomness import seeded


@lru_cache(maxsize=1)  # several rules ask
def momentum_parameters(kit: MethodKit) -> dict[str, str]:
    """Return the online parameter that each parameter of a momentum encoder follows, by name."""
    training = kit.training
    stated = _inside(training.method)
    frozen = {name for name, parameter in training.method.named_parameters() if not parameter.requires_grad}
    influences = _influences(kit, copy.deepcopy(training.method).eval(), frozen, stated)
    found = (influences.target | (influences.loss & frozen)) - influences.online
    found |= _moved_along_a_line(training)
    online = [name for name in training.initial if name not in found | stated.keys()]
    guessed = {name: _counterpart(training, name, online) for name in found - stated.keys()}
    pairs = stated | {name: other for name, other in guessed.items() if other is not None}
    return dict(sorted(pairs.items()))


def parallel(moved: Tensor, line: Tensor) -> bool:
    """Say whether a change is along a line, in either direction. One number says nothing of directions."""
    if moved.numel() < 2 or not moved.any():
        return False
    return abs(float(torch.cosine_similarity(moved.flatten(), line.flatten(), dim=0))) > 1 - 1e-6


def _inside(method: AnyMethod) -> dict[str, str]:
    """Parameters of the :class:`Momentum` modules, and what each follows."""
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    pairs = {}
    for module in method.modules():
        if isinstance(module, Momentum):
            for ours, theirs in zip(module.module.parameters(), module.source.parameters(), strict=False):
                if id(ours) in names and id(theirs) in names:
                    pairs[names[id(ours)]] = names[id(theirs)]
    return pairs


@dataclass(frozen=True)
class _Influences:
    """Names of the parameters that change what ``online``, ``target`` and ``loss`` return when they are changed."""

    online: set[str] = field(default_factory=set)
    target: set[str] = field(default_factory=set)
    loss: set[str] = field(default_factory=set)


@torch.no_grad()
def _influences(kit: MethodKit, method: AnyMethod, frozen: set[str], known: Collection[str]) -> _Influences:
    """Change one parameter after the other and see what follows; those that are known already are left out.

    Gradients would not show it: they are cut where a target is detached. Each time all state is put back, in case that
    computing the output moves it.
    """
    before = copy.deepcopy(method.state_dict())
    expected, found = _outputs(kit, method), _Influences()

    def change(names: Iterable[str]) -> list[bool]:
        method.load_state_dict(before)
        for name in names:
            with seeded(0):
                parameter = method.get_parameter(name)
                parameter.add_(torch.randn_like(parameter))
        return [not torch.equal(*pair) for pair in zip(_outputs(kit, method), expected, strict=True)]

    names = {name for name, _ in method.named_parameters()} - set(known)
    candidates = names if change(names)[1] else names & frozen  # no target depends on any: the frozen ones are left
    for name in candidates:
        for influenced, group in zip(change([name]), (found.online, found.target, found.loss), strict=True):
            if influenced:
                group.add(name)
    return found


def _outputs(kit: MethodKit, method: AnyMethod) -> tuple[Tensor, Tensor, Tensor]:
    """All features of ``online`` and of ``target``, each in one row, and the loss."""
    seen = kit.seen(method, range(4))
    return _row(seen.online_features), _row(seen.target_features), kit.loss(method, seen, 4).value


def _row(views: tuple[Features, ...]) -> Tensor:
    tensors = [t for one in views for t in ([one] if isinstance(one, Tensor) else one.values())]
    return torch.cat([tensor.double().flatten() for tensor in tensors]) if tensors else torch.zeros(0)


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

"""Rules for momentum encoders: copies at first, never trained, moved once per step and in the right direction.

Which parameters are meant: :mod:`ssl3d.testing.roles`.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from ssl3d.method import AnyMethod
from ssl3d.testing.kit import MethodKit
from ssl3d.testing.roles import momentum_parameters, parallel
from ssl3d.testing.runner import NotApplicable, require
from ssl3d.testing.toys import SIZE

NEAR = 1e-9  # distances below this share of a parameter's length are none


def check_momentum_starts_as_a_copy(kit: MethodKit) -> None:
    """Every weight of the momentum encoder, heads included, starts as a copy of the online one."""
    initial = kit.training.initial
    for name, online in _pairs(kit).items():
        same = torch.equal(initial[name], initial[online])
        require(same, f"{name} does not start as a copy of {online}; make it Momentum(...) of it, after that was built")


def check_momentum_never_trains(kit: MethodKit) -> None:
    """No weight of the momentum encoder gets a gradient or is seen by the optimiser."""
    pairs, method = _pairs(kit), kit.training.method
    for name in pairs:
        got = name in kit.training.gradients
        require(not got, f"{name} gets a gradient; detach it, and call requires_grad_(False) on the copy")
    for name in pairs:
        trainable = method.get_parameter(name).requires_grad
        require(not trainable, f"{name} requires a gradient; call requires_grad_(False) on the copy")


def check_momentum_moves(kit: MethodKit) -> None:
    """after_step moves every weight of the momentum encoder that differs from the online one."""
    for name, (online, distance) in _apart(kit).items():
        moved = (kit.training.final[name] - kit.training.between[name]).norm()
        require(
            moved > 0, f"{name} is {distance:.2g} away from {online}, and after_step does not move it; call update()"
        )


def check_momentum_follows(kit: MethodKit) -> None:
    """What moves in the momentum encoder moves towards the online weight, by at most half of the way."""
    between, final = kit.training.between, kit.training.final
    for name, (online, distance) in _apart(kit).items():
        line, moved = between[online] - between[name], final[name] - between[name]
        share = float((moved * line).sum()) / distance**2
        require(share >= 0, f"after_step moves {name} away from {online}; add (1 - momentum) of the difference")
        off = float((moved - share * line).norm())
        require(
            off <= 1e-3 * float(moved.norm()), f"after_step moves {name}, but not towards {online}; average the two"
        )
        require(
            share <= 0.5,
            f"after_step moves {name} {share:.1%} of the way to {online}; give the weight of the old value, near 1",
        )


def check_after_step_leaves_the_online_network(kit: MethodKit) -> None:
    """after_step does not move an online weight towards its momentum copy."""
    training = kit.training
    for name, online in _pairs(kit).items():
        if name in training.gradients:
            continue  # trained as well: that is another rule's fault
        moved = training.final[online] - training.between[online]
        line = training.between[name] - training.between[online]
        require(not parallel(moved, line), f"after_step moves {online} towards its copy {name}; move the copy instead")


def check_only_after_step_moves_state(kit: MethodKit) -> None:
    """Views, online, target and loss move no parameter, and no buffer but running statistics."""
    method = copy.deepcopy(kit.training.method)
    _demand_still(kit, method, f"{kit.kind.__name__}'s forward pass in training mode moves {{}}; move it in after_step")


def check_evaluation_moves_nothing(kit: MethodKit) -> None:
    """In evaluation mode views, online, target, loss and encoder move no parameter and no buffer."""
    method = copy.deepcopy(kit.training.method).eval()
    _demand_still(
        kit, method, f"{kit.kind.__name__}'s forward pass in evaluation mode moves {{}}; move it in after_step"
    )


def _demand_still(kit: MethodKit, method: AnyMethod, sentence: str) -> None:
    before = _state(method)
    volumes = torch.randn(2, 1, *SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        kit.loss(method, kit.seen(method))
        method.encoder()(volumes)
    moved = [name for name, value in _state(method).items() if not torch.equal(value, before[name])]
    require(not moved, sentence.format(", ".join(moved[:3])))


def _state(method: AnyMethod) -> dict[str, Tensor]:
    """All parameters and buffers, in training mode without the running statistics of batch norm."""
    tensors = [*method.named_parameters(), *method.named_buffers()]
    running = ("running_mean", "running_var", "num_batches_tracked")
    return {name: value.clone() for name, value in tensors if not (method.training and name.endswith(running))}


def _apart(kit: MethodKit) -> dict[str, tuple[str, float]]:
    """Momentum parameters away from their online ones before ``after_step``: those, and how far."""
    between = kit.training.between
    apart = {}
    for name, online in _pairs(kit).items():
        distance = float((between[online] - between[name]).norm())
        if distance > NEAR * float(between[online].norm()):
            apart[name] = (online, distance)
    return apart


def _pairs(kit: MethodKit) -> dict[str, str]:
    """The online parameter that each momentum parameter follows, by name."""
    pairs = momentum_parameters(kit)
    if not pairs:
        raise NotApplicable("it has no momentum encoder")
    return pairs

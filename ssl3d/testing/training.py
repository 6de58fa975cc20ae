"""Rules for training: every parameter learns, state survives, half precision holds."""

from __future__ import annotations

import copy
import io
import math

import torch

from ssl3d.testing.kit import COUNT, STEPS, MethodKit, parameters
from ssl3d.testing.modules import RoundedConvolutions, bfloat16, demand_finite_gradients, demand_gradients
from ssl3d.testing.roles import momentum_parameters
from ssl3d.testing.runner import require
from ssl3d.testing.toys import SIZE
from ssl3d.train.optimizer import parameter_groups


def check_parameter_groups(kit: MethodKit) -> None:
    """parameter_groups() returns every trainable parameter once, with multipliers that are not negative."""
    kit.must_train()
    for group in parameter_groups(kit.build()):
        factors = (group["lr_factor"], group["weight_decay_factor"])
        require(min(factors) >= 0, f"parameter_groups: a group has the multipliers {factors}; none may be negative")
        until = group["frozen_until"]
        require(0 <= until < 1, f"parameter_groups: a group is frozen until {until}; that is a share below 1")


def check_it_trains(kit: MethodKit) -> None:
    """A few optimiser steps run through, with finite losses."""
    losses = kit.training.losses
    finite = all(math.isfinite(loss) for loss in losses)
    require(finite, f"the losses of the first steps are {losses}; look for a division by zero or a log of zero in loss")


def check_every_parameter_learns(kit: MethodKit) -> None:
    """Every parameter that requires a gradient gets one that is not zero."""
    trainable = {name for name, p in kit.training.method.named_parameters() if p.requires_grad}
    demand_gradients(trainable - momentum_parameters(kit).keys(), kit.training.gradients)


def check_the_encoder_learns(kit: MethodKit) -> None:
    """encoder() returns a backbone that a few steps have changed."""
    fresh, trained = kit.build(dtype=torch.float64), kit.training.method
    volumes = torch.randn(2, 1, *SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        before, after = fresh.encoder().eval()(volumes), copy.deepcopy(trained.encoder()).eval()(volumes)
    same = torch.equal(before, after)
    if same and not any(parameter.requires_grad for parameter in trained.encoder().parameters()):
        advice = "leave some of it trainable in build, or set trains = False"
        require(
            False, f"the backbone is frozen: encoder() has no trainable parameter, so training cannot help; {advice}"
        )
    require(not same, "encoder() gives the same features before and after training; return the network that is trained")


def check_a_short_batch_is_finite(kit: MethodKit) -> None:
    """Two volumes, as the last effective batch of an epoch may have, give a finite loss and finite gradients."""
    method = copy.deepcopy(kit.training.method)
    loss = kit.backward(method, count=2).scalars["loss"]
    require(math.isfinite(loss), f"the loss of two volumes is {loss}; divide by what two volumes have, too")
    demand_finite_gradients(method, "for two volumes")


def check_bfloat16(kit: MethodKit) -> None:
    """Under bf16 autocast a step of the backbone, and the loss on what it gives, are finite."""
    method = copy.deepcopy(kit.training.method).float()
    with RoundedConvolutions():
        outcome = kit.backward(method, COUNT // 2, autocast=bfloat16)
    loss = outcome.scalars["loss"]
    require(math.isfinite(loss), f"under bf16 the loss is {loss}; compute what is delicate in float32")
    demand_finite_gradients(method, "under bf16")


def check_state_survives(kit: MethodKit) -> None:
    """A state dict, written and read without pickle, makes a fresh instance go on as the one that wrote it."""
    going, fresh = copy.deepcopy(kit.training.method), kit.build(seed=1, dtype=torch.float64)
    file = io.BytesIO()
    torch.save(going.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    steps = range(STEPS, STEPS + 2)
    expected, losses = kit.train(going, steps), kit.train(fresh, steps)
    advice = "register what changes during training as a buffer"
    require(losses == expected, f"resumed, the next losses are {losses} instead of {expected}; {advice}")
    ours = parameters(fresh)
    other = [name for name, value in parameters(going).items() if not torch.equal(value, ours[name])]
    require(not other, f"resumed, {', '.join(other[:3])} end elsewhere; {advice}")


def check_copies(kit: MethodKit) -> None:
    """copy.deepcopy gives a method of its own that computes the same."""
    method = kit.training.method
    twin = copy.deepcopy(method)
    shared = {id(tensor) for tensor in method.parameters()} & {id(tensor) for tensor in twin.parameters()}
    require(not shared, "a deep copy shares parameters with its original; keep no reference outside the modules")
    losses = [kit.backward(one).scalars["loss"] for one in (copy.deepcopy(method), twin)]
    require(
        losses[0] == losses[1],
        f"a copy of a copy gives the loss {losses[0]}, the copy {losses[1]}; register state as buffers or plain values",
    )

"""Rules for training: every parameter learns, splits agree, state survives, half precision holds."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ssl3d.testing.kit import COUNT, STEPS, MethodKit, parameters
from ssl3d.testing.modules import bfloat16, demand_finite_gradients, demand_gradients, native_kernels
from ssl3d.testing.randomness import seeded, untouched
from ssl3d.testing.runner import require
from ssl3d.train.window import Outcome

TOLERANCE = 1e-10  # float64 rounding over sums of a few thousand terms stays below 1e-12


def check_it_trains(kit: MethodKit) -> None:
    """A few optimiser steps run through, with finite losses."""
    losses = kit.training.losses
    require(all(math.isfinite(loss) for loss in losses), f"the losses of the first steps are {losses}")


def check_loss_returns_scalars_and_rows(kit: MethodKit) -> None:
    """Loss returns a scalar "loss" with a gradient, and otherwise scalars and tensors with one row a volume."""
    method = copy.deepcopy(kit.training.method)
    outputs = method.loss(*kit.features(method, 6))
    loss = outputs.get("loss")
    require(isinstance(loss, Tensor) and loss.ndim == 0, 'loss must return a scalar tensor under "loss"')
    require(loss is not None and loss.requires_grad, 'the scalar under "loss" carries no gradient')
    for name, value in outputs.items():
        rows = value.ndim == 0 or len(value) == 6
        require(rows, f"loss returns {name!r} of shape {tuple(value.shape)} for 6 volumes: neither scalar nor 6 rows")


def check_loss_draws_nothing(kit: MethodKit) -> None:
    """Loss is a function of its features: equal features, equal loss, and no global random state moves."""
    method = copy.deepcopy(kit.training.method)
    features = kit.features(method)
    with seeded(1), untouched("loss"):
        first = method.loss(*features)["loss"]
    with seeded(2):
        again = method.loss(*features)["loss"]
    require(torch.equal(first, again), f"the same features give a loss of {first} and then of {again}")


def check_every_parameter_learns(kit: MethodKit) -> None:
    """Every parameter that requires a gradient gets one that is not zero."""
    trainable = {name for name, p in kit.training.method.named_parameters() if p.requires_grad}
    demand_gradients(trainable - kit.momentum.keys(), kit.training.gradients)


def check_the_encoder_learns(kit: MethodKit) -> None:
    """encoder() returns a backbone that a few steps have changed."""
    fresh, trained = kit.build(dtype=torch.float64), kit.training.method
    view = kit.views(fresh)[0].double()
    with torch.no_grad():
        before, after = fresh.encoder().eval()(view), copy.deepcopy(trained.encoder()).eval()(view)
    require(not torch.equal(before, after), "what encoder() returns gives the same features before and after training")


def check_splits_agree(kit: MethodKit) -> None:
    """Gradient, loss and rows of an effective batch do not depend on how it is split into micro-batches."""
    expected, grads = _split(kit, COUNT)
    for micro_batch in (1, 2, 4):
        outcome, split = _split(kit, micro_batch)
        where = f"in micro-batches of {micro_batch}"
        require(split.keys() == grads.keys(), f"{where} other parameters get gradients than in one piece")
        error = _relative([split[name] for name in grads], list(grads.values()))
        require(error < TOLERANCE, f"the gradient {where} differs from that of the whole batch by {error:.1g}")
        for name, value in expected.scalars.items():
            close = math.isclose(value, outcome.scalars[name], rel_tol=TOLERANCE, abs_tol=TOLERANCE)
            require(close, f"{name!r} {where} is {outcome.scalars[name]}, and {value} for the whole batch")
        for name, rows in expected.kept.items():
            close = torch.allclose(outcome.kept[name].double(), rows.double(), rtol=1e-9, atol=1e-9)
            require(close, f"the rows {name!r} {where} differ from those of the whole batch")


def _split(kit: MethodKit, micro_batch: int) -> tuple[Outcome, dict[str, Tensor]]:
    method = copy.deepcopy(kit.training.method)
    outcome = kit.backward(method, micro_batch)
    return outcome, {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


def _relative(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    one, other = torch.cat([g.flatten() for g in ours]), torch.cat([g.flatten() for g in theirs])
    return float((one - other).norm() / other.norm())


def check_a_short_batch_is_finite(kit: MethodKit) -> None:
    """Two volumes, as the last effective batch of an epoch may have, give a finite loss and finite gradients."""
    method = copy.deepcopy(kit.training.method)
    loss = kit.backward(method, count=2).scalars["loss"]
    require(math.isfinite(loss), f"the loss of two volumes is {loss}")
    demand_finite_gradients(method, "for two volumes")


def check_bfloat16(kit: MethodKit) -> None:
    """Under bf16 autocast a step of the backbone, and the loss on what it gives, are finite."""
    method = copy.deepcopy(kit.training.method).float()
    with native_kernels():
        outcome = kit.backward(method, COUNT // 2, autocast=bfloat16)
    require(math.isfinite(outcome.scalars["loss"]), f"under bf16 the loss is {outcome.scalars['loss']}")
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
    require(losses == expected, f"resumed, the next losses are {losses} instead of {expected}: state is missing")
    ours = parameters(fresh)
    other = [name for name, value in parameters(going).items() if not torch.equal(value, ours[name])]
    require(not other, f"resumed, {', '.join(other[:3])} end elsewhere: state is missing from the state dict")


def check_copies(kit: MethodKit) -> None:
    """copy.deepcopy gives a method of its own that computes the same."""
    method = kit.training.method
    twin = copy.deepcopy(method)
    shared = {id(tensor) for tensor in method.parameters()} & {id(tensor) for tensor in twin.parameters()}
    require(not shared, "a deep copy shares parameters with its original")
    losses = [kit.backward(one).scalars["loss"] for one in (copy.deepcopy(method), twin)]
    require(losses[0] == losses[1], f"a copy of a copy gives the loss {losses[0]}, the copy {losses[1]}")

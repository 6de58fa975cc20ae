"""Rules for what ``online`` and ``loss`` return."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

import torch
from torch import Tensor

from ssl3d.errors import UserError
from ssl3d.method import AnyMethod
from ssl3d.task import Kind
from ssl3d.testing.blame import place_of, place_of_change
from ssl3d.testing.kit import COUNT, MethodKit
from ssl3d.testing.modules import demand_finite_gradients
from ssl3d.testing.randomness import seeded, states, untouched
from ssl3d.testing.runner import BrokenRuleError, NotApplicable, require
from ssl3d.train.join import tensors

FEWER = 6  # volumes


def check_embedding_has_one_vector_per_volume(kit: MethodKit) -> None:
    """embedding() turns what ``online`` returns into one finite vector per volume, (N, F)."""
    method = copy.deepcopy(kit.training.method)
    with torch.no_grad():
        for index, features in enumerate(kit.seen(method).online_features):
            vectors = method.embedding(features)
            shape = tuple(vectors.shape)
            require(
                vectors.ndim == 2 and len(vectors) == COUNT,
                f"embedding of the features of view {index} of {COUNT} volumes has the shape {shape}; return (N, F)",
            )
            require(vectors.isfinite().all(), f"embedding of the features of view {index} is not finite")


def check_loss_is_well_formed(kit: MethodKit) -> None:
    """Loss returns a scalar with a gradient, rows of one row per volume, and sums whose shapes do not follow N."""
    method = copy.deepcopy(kit.training.method)
    few, all_ = kit.loss(method, kit.seen(method, range(FEWER)), FEWER), kit.loss(method, kit.seen(method))
    require(few.value.requires_grad, "loss: value carries no gradient; compute it from the features, without detach()")
    if few.weight is not None:
        weight = float(few.weight)
        sound = math.isfinite(weight) and weight >= 0
        require(sound, f"loss: weight is {weight}; state how many things the mean is over, as in mask.sum()")
        require(not kit.kind.coupled, "loss: weight has no effect where coupled is True; leave it out")
    for name, total in few.sums.items():
        same = name in all_.sums and all_.sums[name].shape == total.shape
        require(
            same, f"loss: the sum {name!r} has another shape for {COUNT} volumes than for {FEWER}; add over volumes"
        )
    require(few.sums.keys() == all_.sums.keys(), "loss: the names of the sums change; return the same ones each time")
    require(few.rows.keys() == all_.rows.keys(), "loss: the names of the rows change; return the same ones each time")
    for name, row in few.rows.items():
        require(row.isfinite().all(), f"loss: the rows {name!r} have values that are not finite")


def check_draws_are_keyed(kit: MethodKit) -> None:
    """A step repeats to the last bit: what is drawn in online, target and loss comes from torch's generator alone."""
    advice = "draw in views from rng, or from torch's generator, which is seeded around online, target and loss"
    found = []
    for seed in (1, 2):
        method = copy.deepcopy(kit.training.method)
        with seeded(seed), _blamed(kit), untouched("a step", advice):
            loss = kit.backward(method, 3).scalars["loss"]
        found.append((loss, {name: p.grad for name, p in method.named_parameters() if p.grad is not None}))
    (loss, gradients), (again, others) = found
    if loss != again:
        place = place_of(kit.kind, _unrepeatable(kit))
        require(False, f"the same step gives a loss of {loss} and then of {again}{place}; {advice}")
    differ = [name for name, gradient in gradients.items() if not torch.equal(gradient, others[name])]
    require(not differ, f"the same step gives other gradients of {', '.join(differ[:3])}; {advice}")


@contextmanager
def _blamed(kit: MethodKit) -> Iterator[None]:
    """Add the line that moves a random state of numpy or of random to a message about it.

    Torch's generator is left out: it moves with every legitimate draw, and is put back.
    """
    try:
        yield
    except BrokenRuleError as fault:
        method = copy.deepcopy(kit.training.method)
        with seeded(0):
            place = place_of_change(
                kit.kind,
                lambda: kit.backward(method, 3),
                lambda: {name: state for name, state in states().items() if name != "torch"},
            )
        raise BrokenRuleError(str(fault).replace(";", f"{place};", 1)) from None


@torch.no_grad()
def _unrepeatable(kit: MethodKit) -> str:
    """Return the name of the first function whose results differ the second time."""
    method = copy.deepcopy(kit.training.method)
    first, again = kit.seen(method), kit.seen(method)
    for function, ours, theirs in (
        ("online", first.online_features, again.online_features),
        ("target", first.target_features, again.target_features),
    ):
        pairs = zip(ours, theirs, strict=True)
        if not all(
            torch.equal(*pair) for one, other in pairs for pair in zip(tensors(one), tensors(other), strict=True)
        ):
            return function
    return "loss"


def check_every_kind_of_task(kit: MethodKit) -> str:
    """With labels of any kind of task, some unknown, the loss is finite; a kind that is not supported is refused."""
    if "labels" not in kit.kind.needs:
        raise NotApplicable("it needs no labels")
    refused = []
    for labels in get_args(Kind):
        other = MethodKit(kit.kind, kit.settings, labels)
        try:
            method = other.build(dtype=torch.float64)
        except UserError:
            refused.append(labels)
            continue
        _demand_finite(other, method, f"with labels of a {labels} task, some of them unknown,")
        unknown = torch.full_like(other.source.labels, -1 if other.task.categorical else torch.nan)
        other.source.labels = unknown
        _demand_finite(other, method, f"with labels of a {labels} task, all of them unknown,")
    require(len(refused) < len(get_args(Kind)), "every kind of task is refused; support one at least")
    return f"refuses {', '.join(refused)}" if refused else ""


def _demand_finite(kit: MethodKit, method: AnyMethod, where: str) -> None:
    loss: float | Tensor = kit.backward(method, COUNT // 2).scalars["loss"]
    require(
        math.isfinite(loss),
        f"{where} the loss is {loss}; leave unknown labels (-1 or NaN) out, with Loss.weight their rest",
    )
    demand_finite_gradients(method, where)

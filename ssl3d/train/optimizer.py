"""Optimisers over the parameter groups of a method; settings that change are functions of the step."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightly.utils.lars import LARS
from torch import Tensor, nn

from ssl3d.errors import PluginError
from ssl3d.method import AnyMethod
from ssl3d.recipe import PretrainRecipe
from ssl3d.train.schedule import Schedule

LEAST_DECAY = 1e-12  # lightly's LARS reads a weight decay of 0 as "do not adapt"; only a group may say so, not a recipe


def build_optimizer(method: AnyMethod, recipe: PretrainRecipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser over the method's parameter groups.

    Raises:
        PluginError: nothing is trainable, or the groups do not hold every trainable parameter once.
    """
    groups = parameter_groups(method)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
    lars: torch.optim.Optimizer = LARS(groups, lr=recipe.lr, momentum=recipe.momentum)
    return lars


def parameter_groups(method: AnyMethod) -> list[dict[str, Any]]:
    """Return the method's groups in the optimiser's format, without empty ones.

    In addition to its parameters, each has the factors ``lr_factor`` and ``weight_decay_factor``, and ``frozen_until``.

    Raises:
        PluginError: see :func:`build_optimizer`.
    """
    groups = method.parameter_groups()
    grouped = [parameter for group in groups for parameter in group.parameters]
    trainable = {id(parameter): name for name, parameter in method.named_parameters() if parameter.requires_grad}
    kind = type(method).__name__
    if not trainable:
        raise PluginError(f"{kind} has no trainable parameter; leave some of the backbone or of a head unfrozen")
    if len({id(parameter) for parameter in grouped}) < len(grouped):
        raise PluginError(f"{kind}.parameter_groups holds a parameter twice; put each into one group")
    strange = [parameter for parameter in grouped if id(parameter) not in trainable]
    if strange:
        shape = tuple(strange[0].shape)
        raise PluginError(f"{kind}.parameter_groups holds a parameter {shape} that is not trainable; leave it out")
    missing = trainable.keys() - {id(parameter) for parameter in grouped}
    if missing:
        name = min(trainable[one] for one in missing)
        raise PluginError(f"{kind}.parameter_groups leaves out {name!r}; put every trainable parameter into a group")
    return [
        {
            "params": list(group.parameters),
            "lr_factor": group.lr,
            "weight_decay_factor": group.weight_decay,
            "frozen_until": group.frozen_until,
        }
        for group in groups
        if group.parameters
    ]


def prepare_step(optimizer: torch.optim.Optimizer, schedule: Schedule, step: int) -> None:
    """Set learning rates and weight decays for a step, and drop the gradients of groups that are still frozen."""
    adapts = isinstance(optimizer, LARS)
    for group in optimizer.param_groups:
        decay = max(schedule.weight_decay(step), LEAST_DECAY) if adapts else schedule.weight_decay(step)
        group["lr"] = schedule.lr(step) * group["lr_factor"]
        group["weight_decay"] = decay * group["weight_decay_factor"]
        if schedule.progress(step) < group["frozen_until"]:
            for parameter in group["params"]:
                parameter.grad = None


def clip_gradient(module: nn.Module, longest: float) -> None:
    """Scale the whole gradient down to a norm of ``longest`` if it is longer."""
    nn.utils.clip_grad_norm_(module.parameters(), longest)


def finite_gradients(module: nn.Module) -> bool:
    """Return whether all gradients are finite; synchronises with the device once."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    # The 2-norm is many times faster on a CPU, but overflows for huge finite numbers.
    return _finite_norms(gradients, 2.0) or _finite_norms(gradients, math.inf)


def _finite_norms(tensors: list[Tensor], order: float) -> bool:
    norms = [norm.float() for norm in torch._foreach_norm(tensors, order)] if tensors else []
    return not norms or bool(torch.stack(norms).isfinite().all())

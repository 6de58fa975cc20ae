"""Optimisers with the usual exemption: no weight decay, and under LARS no adaptation, for norms and biases."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightly.utils.lars import LARS
from torch import Tensor, nn

from ssl3d.recipe import PretrainRecipe


def build_optimizer(module: nn.Module, recipe: PretrainRecipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser over the module's trainable parameters, in a fixed order."""
    # lightly's LARS takes a weight decay of zero as "do not adapt": a negligible one keeps the adaptation on.
    weight_decay = max(recipe.weight_decay, 1e-12) if recipe.optimizer == "lars" else recipe.weight_decay
    groups = parameter_groups(module, weight_decay)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
    lars: torch.optim.Optimizer = LARS(groups, lr=recipe.lr, momentum=recipe.momentum)
    return lars


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split trainable parameters into those that decay and those that do not.

    Biases, and the weights of norms, have one dimension; class tokens and position embeddings are named as such.
    """
    decay: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            small = parameter.ndim <= 1 or any(word in name for word in ("pos_embed", "cls_token"))
            (exempt if small else decay).append(parameter)
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def finite_gradients(module: nn.Module) -> bool:
    """Whether every number of every gradient is finite; asks the device once."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    # The 2-norm is many times quicker on a CPU, but overflows where finite numbers are huge.
    return _finite_norms(gradients, 2.0) or _finite_norms(gradients, math.inf)


def _finite_norms(tensors: list[Tensor], order: float) -> bool:
    norms = [norm.float() for norm in torch._foreach_norm(tensors, order)] if tensors else []
    return not norms or bool(torch.stack(norms).isfinite().all())

"""What a pretraining costs, in floating-point operations, known before it runs."""

from __future__ import annotations

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode

from ssl3d.backbone import Backbone
from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes
from ssl3d.engine import Engine
from ssl3d.method import Method
from ssl3d.recipe import Recipe
from ssl3d.train.schedule import Schedule


def forward_flops(backbone: Backbone, size: tuple[int, int, int]) -> int:
    """Return the operations (a multiply-add is two) of encoding one view (1, 1, D, H, W); computes no number."""
    twin = copy.deepcopy(backbone).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        twin(torch.zeros(1, 1, *size, device="meta"))
    return int(counter.get_total_flops())


def pretrain_flops(method: Method, recipe: Recipe, volumes: int, engine: Engine | None = None) -> float:
    """Return the operations of the backbone in a whole pretraining: a backward pass counts as two forward passes.

    Args:
        method: whose views are encoded by the online network, the momentum encoder, or both.
        recipe: of the cell.
        volumes: in the training split.
        engine: how an effective batch is split; the recipe's if None.
    """
    if not method.trains:
        return 0.0
    views = count_views(method, recipe.view_size)
    schedule = Schedule.of(recipe.pretrain, volumes)
    engine = engine or Engine.of(recipe.pretrain, schedule.batch_size)
    share = -(-schedule.batch_size // engine.processes)
    parts = -(-share // engine.micro_batch)
    again = max(0, parts - engine.keep) / parts if recipe.pretrain.accumulation == "exact" and method.coupled else 0.0
    online = views if method.online_views is None else len(method.online_views)
    has_target = type(method).target is not Method.target
    target = 0 if not has_target else views if method.target_views is None else len(method.target_views)
    volumes_seen = sum(len(schedule.window(step)) for step in range(schedule.steps_per_epoch)) * schedule.epochs
    return forward_flops(method.backbone, recipe.view_size) * volumes_seen * (online * (3 + again) + target)


def count_views(method: Method, size: tuple[int, int, int]) -> int:
    """Return V, by making the views of one empty volume."""
    device = next(method.parameters()).device
    one = torch.ones(1, device=device)
    empty = Volumes((torch.zeros((1, *size), dtype=torch.uint8, device=device),), 0 * one, one)
    return len(method.views(empty, Rng(0, 0, range(1), device)))

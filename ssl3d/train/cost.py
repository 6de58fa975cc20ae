"""The cost of a pretraining in floating-point operations, computed before it runs."""

from __future__ import annotations

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode

from ssl3d.backbone import Backbone
from ssl3d.engine import Engine
from ssl3d.method import AnyMethod, Views
from ssl3d.recipe import EncoderRecipe
from ssl3d.train.encode import BatchEncoder, EffectiveBatch
from ssl3d.train.schedule import Schedule
from ssl3d.train.toy import RandomSource

ONE, BATCH = range(1), EffectiveBatch(range(1), 0)


def forward_flops(backbone: Backbone, size: tuple[int, int, int]) -> int:
    """Return the operations (a multiply-add counts as two) to encode one view (1, 1, D, H, W), on meta tensors."""
    twin = copy.deepcopy(backbone).to("meta").eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        twin(torch.zeros(1, 1, *size, device="meta"))
    return int(counter.get_total_flops())


def method_flops(method: AnyMethod, size: tuple[int, int, int]) -> tuple[int, int]:
    """Return the operations per volume of ``online`` and of ``target`` on their views, each a forward pass.

    All modules that they run are counted, on the views that the method makes: on meta tensors if possible, otherwise
    by computing them.

    Args:
        method: not changed.
        size: (D, H, W) of a volume.
    """
    twin = copy.deepcopy(method).eval().requires_grad_(False)
    encoder = BatchEncoder(twin, RandomSource(size, method.task))
    with torch.no_grad():
        views = encoder.views(BATCH, ONE)
        try:
            twin.to("meta")
            return _counted(encoder, _on_meta(views))
        except (NotImplementedError, RuntimeError):  # it reads a value, which meta tensors do not have
            return _counted(BatchEncoder(copy.deepcopy(method).eval().requires_grad_(False), encoder.source), views)


def pretrain_flops(method: AnyMethod, recipe: EncoderRecipe, volumes: int, engine: Engine | None = None) -> float:
    """Return the operations of ``online`` and ``target`` in a whole pretraining; a backward pass is two forward ones.

    Args:
        method: method to train.
        recipe: recipe of the encoder.
        volumes: number of volumes in the corpus.
        engine: how an effective batch is split; from the recipe if None.
    """
    if not method.trains or recipe.pretrain is None:
        return 0.0
    schedule = Schedule.of(recipe.pretrain, volumes)
    engine = engine or Engine.of(recipe.pretrain, schedule.batch_size)
    share = -(-schedule.batch_size // engine.processes)
    parts = -(-share // engine.micro_batch)
    again = max(0, parts - engine.keep) / parts if recipe.pretrain.accumulation == "exact" and method.coupled else 0.0
    online, target = method_flops(method, recipe.view_size)
    volumes_seen = sum(len(schedule.batch(step)) for step in range(schedule.steps_per_epoch)) * schedule.epochs
    return volumes_seen * (online * (3 + again) + target)


def _counted(encoder: BatchEncoder, views: Views) -> tuple[int, int]:
    with FlopCounterMode(display=False) as online:
        for place in range(encoder.online_count(views)):
            encoder.online(BATCH, ONE, views, place)
    with FlopCounterMode(display=False) as target:
        encoder.targets(BATCH, ONE, views)
    return int(online.get_total_flops()), int(target.get_total_flops())


def _on_meta(views: Views) -> Views:
    made = Views(*(view.to("meta") for view in views.tensors))
    made.rows = {name: row.to("meta") for name, row in views.rows.items()}
    made.view_rows = tuple({name: row.to("meta") for name, row in rows.items()} for rows in views.view_rows)
    return made

"""The estimated cost of a run, before it starts."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning_fabric import Fabric

from ssl3d.backbone import Backbone
from ssl3d.engine import Engine
from ssl3d.progress import Progress
from ssl3d.recipe import EncoderRecipe, canonical
from ssl3d.results.folder import PLAN, RunFolder
from ssl3d.results.read import open_run
from ssl3d.run.artifact import Context
from ssl3d.run.claim import default_folder
from ssl3d.run.devices import open_device
from ssl3d.run.encoder import Encoder
from ssl3d.run.graph import make_graph
from ssl3d.run.names import encoder_label
from ssl3d.run.options import Options
from ssl3d.run.planning.fit import volumes_of
from ssl3d.run.planning.plan import Plan, Request
from ssl3d.run.planning.rates import trials
from ssl3d.run.volumes import open_packed
from ssl3d.task import Task
from ssl3d.train.build import build_method
from ssl3d.train.cost import forward_flops, pretrain_flops
from ssl3d.train.schedule import Schedule

PROBE_FLOPS = 2e10  # of the timed forward pass: one or two seconds on a CPU, including the other passes


def estimates(plan: Plan, options: Options) -> list[dict[str, Any]]:
    """Return one row of plain values for each encoder of a plan, trials of learning rates included; writes nothing.

    Steps and floating-point operations are counted. The time is the number of operations divided by the rate of one
    forward and backward pass on this machine; views, heads, optimiser and evaluations are not included. Settings left
    to trials ("auto") count as unset. A complete encoder costs nothing; this is known only if the volumes are packed.
    """
    complete, rates = _complete(plan, options), _Rates(options)
    requests: dict[tuple[str, int], Request] = {}  # seeds share their trials, and folds may
    for request in plan.requests:
        for recipe in trials(request.recipe):
            requests.setdefault((recipe.canonical(), 0), Request(recipe, request.fold, ()))
        requests[request.recipe.canonical(), request.fold] = request
    return [_estimate(plan, request, rates, request.recipe.canonical() in complete) for request in requests.values()]


def run_folder(plan: Plan, options: Options) -> RunFolder:
    """Return the folder that a run has or will have."""
    run = options.out or default_folder(plan.experiment, options.roots)
    return open_run(run) if (run / PLAN).is_file() and not options.fresh else RunFolder(run, options.cache)


def _complete(plan: Plan, options: Options) -> set[str]:
    """Return the recipes of complete encoders, and of trials that are no longer needed."""
    folder = run_folder(plan, options)
    volumes = open_packed(plan, folder.stores)
    if volumes is None or (options.fresh and folder.cache is None):
        return set()
    context = Context(folder, options, Progress())
    graph = make_graph(plan, volumes, folder, options, fetch=False)
    needed = {one.key for one in graph.to_make(context).artifacts}
    encoders = (one for one in graph.artifacts if isinstance(one, Encoder))
    return {one.recipe.canonical() for one in encoders if one.key not in needed or one.is_complete(context)}


class _Rates:
    """Floating-point operations per second of backbones, each timed once for all seeds and methods."""

    def __init__(self, options: Options) -> None:
        self._device = options.device
        self._known: dict[str, float] = {}

    def of(self, backbone: Backbone, recipe: EncoderRecipe) -> float:
        assert recipe.pretrain is not None  # the caller has checked
        decides = recipe.model_dump(mode="json", include={"backbone", "backbone_config", "view_size"})
        key = canonical([decides, recipe.pretrain.model_dump(mode="json", exclude={"lr", "tune_lr"})])
        if key not in self._known:
            fabric = open_device(self._device, recipe.pretrain.precision)
            self._known[key] = _flops_per_second(backbone, recipe, fabric)
        return self._known[key]


def _estimate(plan: Plan, request: Request, rates: _Rates, complete: bool) -> dict[str, Any]:
    recipe = request.recipe
    row: dict[str, Any] = {
        "encoder": encoder_label(recipe),
        "method": recipe.method,
        "backbone": recipe.backbone,
        "seed": recipe.seed,
        "evaluations": len(request.evaluations),
        "steps": 0,
        "tflop": 0.0,
        "minutes": 0.0,
        "note": "complete" if complete else "",
    }
    if recipe.pretrain is None:
        return row | {"note": row["note"] or "evaluated only"}
    if complete:
        return row
    volumes = volumes_of(plan, recipe)
    method = build_method(recipe, initialise=False, task=_task(plan, recipe), volumes=volumes)
    flops = pretrain_flops(method, recipe, volumes)
    rate = rates.of(method.backbone, recipe)
    steps = Schedule.of(recipe.pretrain, volumes).steps
    note = "trials may make it faster" if "auto" in vars(recipe.pretrain).values() else ""
    return row | {"steps": steps, "tflop": flops / 1e12, "minutes": flops / rate / 60, "note": note}


def _task(plan: Plan, recipe: EncoderRecipe) -> Task | None:
    tasks = (task for one in plan.planes for task in one.dataset.tasks)
    return next((task for task in tasks if task.name == recipe.task), None)


def _flops_per_second(backbone: Backbone, recipe: EncoderRecipe, fabric: Fabric) -> float:
    """Return the rate of a forward and backward pass over views of zeros, the best of three."""
    assert recipe.pretrain is not None  # the caller has checked
    size = recipe.view_size if fabric.device.type == "cuda" else _probe_size(backbone, recipe.view_size)
    most = Engine.of(recipe.pretrain, recipe.pretrain.batch_size).micro_batch
    count = max(1, min(most, round(PROBE_FLOPS / forward_flops(backbone, size))))
    backbone.to(fabric.device).train()
    if recipe.pretrain.precision == "64-true":
        backbone.double()
    views = torch.zeros(count, 1, *size, device=fabric.device, dtype=next(backbone.parameters()).dtype)
    seconds = float("inf")
    for _ in range(3):
        started = time.monotonic()
        with fabric.autocast():
            features = backbone(views)
        torch.autograd.backward(features.float().sum())
        if fabric.device.type == "cuda":
            torch.cuda.synchronize(fabric.device)
        seconds = min(seconds, time.monotonic() - started)
    return 3 * count * forward_flops(backbone, size) / seconds


def _probe_size(backbone: Backbone, size: tuple[int, int, int]) -> tuple[int, int, int]:
    """Halve the rows and columns of a view until it is cheap to encode, or as small as the backbone accepts."""
    while forward_flops(backbone, size) > PROBE_FLOPS / 2:
        smaller = (size[0], max(size[1] // 2, backbone.min_size[1]), max(size[2] // 2, backbone.min_size[2]))
        if smaller == size:
            break
        size = smaller
    return size

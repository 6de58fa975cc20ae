"""What a cell will cost, before it runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from ssl3d.backbone import Backbone
from ssl3d.data.folds import training_volumes
from ssl3d.dataset import Dataset
from ssl3d.engine import Engine
from ssl3d.recipe import Recipe
from ssl3d.results.folder import cells_folder
from ssl3d.results.records import RESULT, read_result
from ssl3d.run.devices import open_device
from ssl3d.run.options import Options
from ssl3d.run.plan import Cell, Plan
from ssl3d.run.reuse import donors
from ssl3d.train.build import build_method
from ssl3d.train.cost import forward_flops, pretrain_flops
from ssl3d.train.schedule import Schedule

PROBE_FLOPS = 2e10  # of the forward pass that is timed: a second or two on a CPU, with the passes around it


def estimates(plan: Plan, run: Path, options: Options) -> list[dict[str, Any]]:
    """Return one row of plain values for each cell of a plan; see :func:`estimate`.

    A cell whose encoder another cell has, or will have by then, costs nothing. Whether that one's data are the same,
    byte for byte, is found out when it runs.
    """
    rows: list[dict[str, Any]] = []
    made: dict[str, str] = {}  # names of the cells that were priced before, by the hash of their pretraining
    for cell in plan.cells:
        wanted = cell.recipe.pretraining_hash()
        source = next((donor.name for donor, _ in donors(cell, run, options.encoders)), made.get(wanted))
        rows.append(estimate(cell, plan.dataset_of(cell), run, options.device, source))
        made.setdefault(wanted, cell.name)
    return rows


def estimate(cell: Cell, dataset: Dataset, run: Path, device: str, encoder_from: str | None = None) -> dict[str, Any]:
    """Return a cell's cost as one row of plain values.

    Steps and floating-point operations are counted. The time is those operations at the rate of one forward and
    backward pass, timed on this machine; making views, heads, optimiser and judging come on top. What is left to
    trials ("auto") is priced as if it were unset.

    Args:
        cell: to be priced.
        dataset: for the number of its training volumes.
        run: folder, where a cell that is done costs nothing.
        device: where the rate is timed.
        encoder_from: the cell whose encoder will be taken, if there is one.
    """
    recipe = cell.recipe
    row: dict[str, Any] = {"cell": cell.name, "method": recipe.method, "backbone": recipe.backbone, "seed": recipe.seed}
    folder = cells_folder(run) / cell.name
    if (folder / RESULT).is_file() and read_result(folder)[0].status == "done":
        return row | {"steps": 0, "tflop": 0.0, "minutes": 0.0, "note": "has a result"}
    method = build_method(recipe, initialise=False)
    if not method.trains:
        return row | {"steps": 0, "tflop": 0.0, "minutes": 0.0, "note": "judged only"}
    if encoder_from is not None:
        return row | {"steps": 0, "tflop": 0.0, "minutes": 0.0, "note": f"encoder of {encoder_from}"}
    volumes = training_volumes(dataset.cases(), recipe.data.folds, recipe.data.fold)
    flops = pretrain_flops(method, recipe, volumes)
    seconds = flops / _flops_a_second(method.backbone, recipe, open_device(device, recipe.pretrain.precision))
    steps = Schedule.of(recipe.pretrain, volumes).steps
    open_still = "auto" in vars(recipe.pretrain).values()
    note = "trials may make it faster" if open_still else ""
    return row | {"steps": steps, "tflop": flops / 1e12, "minutes": seconds / 60, "note": note}


def _flops_a_second(backbone: Backbone, recipe: Recipe, fabric: Fabric) -> float:
    """Return the rate of a forward and backward pass over views of zeros, the best of three."""
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
        features.float().sum().backward()
        if fabric.device.type == "cuda":
            torch.cuda.synchronize(fabric.device)
        seconds = min(seconds, time.monotonic() - started)
    return 3 * count * forward_flops(backbone, size) / seconds


def _probe_size(backbone: Backbone, size: tuple[int, int, int]) -> tuple[int, int, int]:
    """Halve the rows and columns of a view until it is cheap to encode, or as small as the backbone takes."""
    while forward_flops(backbone, size) > PROBE_FLOPS / 2:
        smaller = (size[0], max(size[1] // 2, backbone.min_size[1]), max(size[2] // 2, backbone.min_size[2]))
        if smaller == size:
            break
        size = smaller
    return size

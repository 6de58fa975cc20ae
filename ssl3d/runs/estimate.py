"""What a cell will cost, before it runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from ssl3d.data.dataset import Dataset
from ssl3d.data.volumes import Volumes
from ssl3d.runs.devices import open_device
from ssl3d.runs.folder import cells_folder
from ssl3d.runs.plan import Cell
from ssl3d.runs.results import RESULT, read_result
from ssl3d.train.build import build_method
from ssl3d.train.cost import pretrain_flops
from ssl3d.train.encode import Batch, Encoder
from ssl3d.train.schedule import Schedule
from ssl3d.train.window import Window

PROBE_VOLUMES = 4  # a micro-batch to be timed; small, so that a plan for a GPU can be looked at on a laptop


def estimate(cell: Cell, dataset: Dataset, run: Path, device: str) -> dict[str, Any]:
    """Return a cell's cost as one row of plain values.

    Steps and floating-point operations are counted. The time is extrapolated from one window of a few random volumes of
    the view's size, timed on this machine after a first one to warm up; reading volumes and judging come on top.

    Args:
        cell: to be priced.
        dataset: for the number of its training volumes.
        run: folder, where a cell that is done costs nothing.
        device: where the window is timed.
    """
    recipe = cell.recipe
    volumes = sum(case.split == "train" for case in dataset.cases())
    row: dict[str, Any] = {"cell": cell.name, "method": recipe.method, "backbone": recipe.backbone, "seed": recipe.seed}
    folder = cells_folder(run) / cell.name
    if (folder / RESULT).is_file() and read_result(folder)[0].status == "done":
        return row | {"steps": 0, "tflop": 0.0, "minutes": 0.0, "note": "has a result"}
    method = build_method(recipe, initialise=False)
    if not method.trains:
        return row | {"steps": 0, "tflop": 0.0, "minutes": 0.0, "note": "judged only"}
    schedule = Schedule.of(recipe.pretrain, volumes)
    seconds = _seconds_a_volume(cell, device) * volumes * schedule.epochs
    flops = pretrain_flops(method, recipe, volumes)
    return row | {"steps": schedule.steps, "tflop": flops / 1e12, "minutes": seconds / 60, "note": ""}


def _seconds_a_volume(cell: Cell, device: str) -> float:
    recipe = cell.recipe
    fabric = open_device(device, recipe.pretrain.precision)
    method = build_method(recipe, initialise=False).to(fabric.device).train()
    micro = min(recipe.pretrain.micro_batch or recipe.pretrain.batch_size, PROBE_VOLUMES)
    split = recipe.pretrain.micro_batch is not None and recipe.pretrain.micro_batch < recipe.pretrain.batch_size
    count = 2 * micro if split else max(2, micro)
    window = Window(Encoder(method, _Noise(recipe.view_size), recipe.seed, fabric.autocast), micro if split else count)
    for _ in range(2):
        started = time.monotonic()
        window.backward(Batch(range(count), 0))
        if fabric.device.type == "cuda":
            torch.cuda.synchronize()
    return (time.monotonic() - started) / count


class _Noise:
    """Random volumes of the size of a view."""

    def __init__(self, size: tuple[int, int, int]) -> None:
        self._size = size

    def volumes(self, indices: Any, device: torch.device) -> Volumes:
        generator = torch.Generator().manual_seed(0)
        voxels = torch.randint(0, 256, (1, *self._size), generator=generator, dtype=torch.uint8).to(device)
        ones = torch.ones(len(indices), device=device)
        return Volumes((voxels,) * len(indices), 127 * ones, 74 * ones)

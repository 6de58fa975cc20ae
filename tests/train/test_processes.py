"""Accumulation is exact over processes too: one, two and three of them end in the same weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing

from ssl3d.backbone import Norm
from ssl3d.train.encode import BatchEncoder, EffectiveBatch
from ssl3d.train.processes import Group
from ssl3d.train.window import Window
from tests.toys import ToySource
from tests.train.test_window import METHODS, build

STEPS = [range(12), range(3, 14), range(2)]  # the last has fewer volumes than three processes


def train(rank: int, size: int, folder: str) -> None:
    """Three steps of every method in one of ``size`` processes; rank 0 writes the results."""
    torch.set_num_threads(1)
    if size > 1:
        os.environ["USE_LIBUV"] = "0"
        dist.init_process_group("gloo", f"file://{folder}/rendezvous-{size}", rank=rank, world_size=size)
    ends: dict[str, Any] = {}
    for name in METHODS:
        for exact in (True, False):
            if not exact and name != "moco":
                continue  # a plain micro-batch of one has no batch statistics and no negatives
            ends[f"{name} {exact}"] = run(name, exact)
        ends[f"{name} batch norm"] = run(name, True, norm="batch", steps=STEPS[:1], micro_batch=12)
    if rank == 0:
        torch.save(ends, Path(folder) / f"{size}.pt")
    if size > 1:
        dist.destroy_process_group()


def run(
    name: str, exact: bool, norm: Norm = "group", steps: list[range] = STEPS, micro_batch: int = 2
) -> dict[str, Any]:
    method = build(name, norm)
    optimizer = torch.optim.SGD(method.parameters(), 0.05, momentum=0.9)
    scalars = []
    for step, volumes in enumerate(steps):
        optimizer.zero_grad()
        window = Window(BatchEncoder(method, ToySource(), seed=3), micro_batch, exact, Group.current())
        outcome = window.backward(EffectiveBatch(volumes, step))
        optimizer.step()
        outcome.statistics.commit()
        method.after_step(step / len(steps), outcome.kept)
        scalars.append(torch.tensor(outcome.scalars["loss"]))
    return {**method.state_dict(), "losses": torch.stack(scalars)}


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Any]:
    folder = str(tmp_path_factory.mktemp("processes"))
    train(0, 1, folder)
    for size in (2, 3):
        multiprocessing.spawn(train, (size, folder), nprocs=size)
    return {size: torch.load(Path(folder) / f"{size}.pt", weights_only=True) for size in (1, 2, 3)}


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("case", [*(f"{name} True" for name in METHODS), "moco False"])
def test_processes_end_in_the_weights_of_one(ends: dict[int, Any], size: int, case: str) -> None:
    for key, value in ends[1][case].items():
        torch.testing.assert_close(ends[size][case][key], value, rtol=1e-11, atol=1e-13, msg=f"{case} {key}")


@pytest.mark.parametrize("size", [2, 3])
def test_running_statistics_of_the_first_layer_are_those_of_the_whole_batch(ends: dict[int, Any], size: int) -> None:
    key = "backbone.first.1.running_var"
    for name in METHODS:
        expected = ends[1][f"{name} batch norm"][key]
        torch.testing.assert_close(ends[size][f"{name} batch norm"][key], expected, rtol=1e-10, atol=1e-12)

"""Accumulation is exact over processes: one, two and three of them compute the same steps of every method."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing

from tests.plugins.small import SMALL, Step, state, train

WINDOWS = [range(12), range(3, 10), range(2)]  # the last window has fewer volumes than three processes
SIZES = (2, 3)
Ends = dict[int, dict[str, list[dict[str, torch.Tensor]]]]


def run() -> dict[str, list[dict[str, torch.Tensor]]]:
    """Return what each step of every method came to, and the state after the last."""
    ends = {}
    for name, small in SMALL.items():
        method = small.build()
        steps = train(method, small.source(), 2, WINDOWS)
        ends[name] = [one.values for one in (*steps, state(method))]
    return ends


def work(rank: int, folder: str) -> None:
    """Run in three processes, then in two of them: processes are slow to start."""
    torch.set_num_threads(1)
    os.environ["USE_LIBUV"] = "0"
    for size in sorted(SIZES, reverse=True):
        if rank < size:
            dist.init_process_group("gloo", f"file://{folder}/rendezvous-{size}", rank=rank, world_size=size)
            ends = run()
            torch.save(ends, Path(folder) / f"{size}-{rank}.pt")
            dist.destroy_process_group()


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """What the last process of one, two and three has."""
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(work, (str(folder),), nprocs=max(SIZES))
    return {1: run(), **{size: torch.load(folder / f"{size}-{size - 1}.pt", weights_only=True) for size in SIZES}}


@pytest.mark.slow  # spawned processes import everything anew
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SMALL)
def test_processes_compute_the_steps_of_one(ends: Ends, name: str, size: int) -> None:
    for number, (ours, theirs) in enumerate(zip(ends[size][name], ends[1][name], strict=True)):
        assert Step(ours).distance(Step(theirs)) == {}, number

"""Time of one effective batch: exact accumulation against plain, and both against the bare passes through the backbone.

    OMP_NUM_THREADS=1 python benchmarks/speed/window.py
    python benchmarks/speed/window.py --device cuda --backbone r3d_18 --size 16 112 112 --batch 64 --micro 8

Bare: forward and backward of the same views, already in memory, micro-batch by micro-batch, with no loss, heads or
augmentation. Exact with ``keep`` holds the activations of so many micro-batches between its passes; the work it adds to
plain is one forward pass for each of the others, so at most 4/3 where backward costs twice forward.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Iterable
from statistics import median

import torch
from torch import Tensor

from ssl3d.data.volumes import Volumes
from ssl3d.recipe import EncoderRecipe
from ssl3d.train.build import build_method
from ssl3d.train.encode import BatchEncoder, EffectiveBatch
from ssl3d.train.window import Window


class Noise:
    """Random volumes, uint8, a little larger than a view."""

    def __init__(self, size: tuple[int, int, int], device: torch.device) -> None:
        shape = (1, size[0] + 2, size[1] + 8, size[2] + 8)
        generator = torch.Generator().manual_seed(0)
        self.voxels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8).to(device)

    def volumes(self, indices: object, device: torch.device) -> Volumes:
        """Return the same volume as often as asked for."""
        count = len(indices)  # type: ignore[arg-type]  # a sequence of numbers
        return Volumes((self.voxels,) * count, torch.full((count,), 127.0, device=device), torch.full((count,), 74.0))

    def rows(self, names: Iterable[str], indices: object, device: torch.device) -> dict[str, Tensor]:  # noqa: ARG002
        """Return nothing: volumes of noise have no labels."""
        return {}


def main() -> None:
    """Time every arrangement in turn, several times over, and print a table of medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--method", default="simclr")
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--size", type=int, nargs=3, default=(12, 40, 40))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--micro", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    device = torch.device(options.device)
    runs = arrangements(options, device)
    times = {name: [] for name in runs}
    for _ in range(options.repeats + 1):
        for name, run in runs.items():
            times[name].append(seconds(run, device))
    report(options, {name: found[1:] for name, found in times.items()})


def arrangements(options: argparse.Namespace, device: torch.device) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name."""
    recipe = EncoderRecipe(method=options.method, backbone=options.backbone, view_size=tuple(options.size))
    method = build_method(recipe).to(device).train()
    source = Noise(tuple(options.size), device)
    batch, parts = EffectiveBatch(range(options.batch), 0), options.batch // options.micro
    views = BatchEncoder(method, source).views(batch, range(options.micro), parts)

    def bare() -> None:
        for _ in range(parts):
            for view in views.tensors:
                method.backbone(view).sum().backward()

    def window(micro: int, exact: bool, keep: int = 1) -> Callable[[], object]:
        return lambda: Window(BatchEncoder(method, source), micro, exact, keep=keep).backward(batch)

    keeps = [keep for keep in (1, 2, parts // 2, parts - 1) if 1 <= keep < parts]
    return {
        "bare passes": bare,
        "one pass, micro-batch = batch": window(options.batch, True),
        "plain": window(options.micro, False),
        **{f"exact, keep {keep} of {parts}": window(options.micro, True, keep) for keep in dict.fromkeys(keeps)},
    }


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Return the time of one call."""
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def report(options: argparse.Namespace, times: dict[str, list[float]]) -> None:
    """Print medians, with ratios to bare and to plain."""
    where = torch.cuda.get_device_name() if options.device.startswith("cuda") else platform.processor() or "CPU"
    print(
        f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__}; {options.method} with "
        f"{options.backbone}, effective batch {options.batch}, micro-batch {options.micro}, views {options.size}\n"
    )
    print("| arrangement | s | to bare | to plain |\n| --- | --- | --- | --- |")
    bare, plain = median(times["bare passes"]), median(times["plain"])
    for name, found in times.items():
        middle = median(found)
        print(f"| {name} | {middle:.3f} | {middle / bare:.2f} | {middle / plain:.2f} |")


if __name__ == "__main__":
    main()

"""Views a second on one core: ssl3d against torchio and MONAI, the same recipe, interleaved in one run.

    python benchmarks/speed/views.py [--repeats 15] > benchmarks/results/views.md

Views of 8-bit volumes by ssl3d's default recipe; transforms.py says what the peers do. They are handed tensors in
memory, as we are. What is measured is processor time over all threads, so that neither other work on the machine nor a
library's own threads count for or against.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from transforms import INSTALL, MakeView, Size, monai_views, torchio_views

from ssl3d.data.augment import Augment, whole
from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes
from ssl3d.recipe import AugmentRecipe

VIEWS = 8  # a repeat
OFF = {"rotate": 0.0, "brightness": 0.0, "contrast": 0.0, "gamma": 0.0, "blur": 0.0, "noise": 0.0}
Run = Callable[[int], object]  # makes VIEWS views


def ours(volumes: Volumes, view: Size) -> Iterator[tuple[str, Run]]:
    """Yield the full recipe first, then parts of it."""
    positions = range(VIEWS)
    recipes = {"ssl3d": AugmentRecipe(), "ssl3d, geometry alone": AugmentRecipe(**OFF)}
    recipes["ssl3d, geometry alone, rotated"] = AugmentRecipe(**{**OFF, "rotate": 10.0})
    for name, recipe in recipes.items():
        augment = Augment(recipe, view)
        yield name, lambda repeat, augment=augment: augment(volumes, Rng(0, repeat, positions))  # type: ignore[misc]
    yield "ssl3d, whole (nothing random)", lambda _: whole(volumes, view)


def peers(volumes: Volumes, view: Size) -> Iterator[tuple[str, Run]]:
    """Yield the arrangements of those peers that are installed."""
    for arrangements in (torchio_views, partial(monai_views, volumes.voxels[0].shape[1:])):
        try:
            made = arrangements(view)
        except ModuleNotFoundError as error:
            print(f"Left out: {error.name} is not installed; {INSTALL}.\n")
            continue
        for name, make in made.items():
            yield name, lambda repeat, make=make: views(volumes, make, repeat)  # type: ignore[misc]


def views(volumes: Volumes, make: MakeView, repeat: int) -> None:
    """Make one view of each volume."""
    for index, voxels in enumerate(volumes.voxels):
        make(voxels, repeat * VIEWS + index)


def measure(runs: dict[str, Run], repeats: int) -> dict[str, list[float]]:
    """Return milliseconds a view by name, one a repeat; arrangements take turns, so that they share what comes."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(-1, repeats):  # the first is a warm-up
        for name, run in runs.items():
            start = time.process_time()
            run(repeat + 1)
            if repeat >= 0:
                times[name].append((time.process_time() - start) / VIEWS * 1e3)
    return times


def table(times: dict[str, list[float]]) -> Iterator[str]:
    """Yield the lines of the table and the ratios to the peers."""
    yield "| arrangement | ms of processor time a view, median | least | views/s (median) | times as long as ssl3d |"
    yield "| --- | --- | --- | --- | --- |"
    median = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        ratio = median[name] / median["ssl3d"]
        yield f"| {name} | {median[name]:.2f} | {min(values):.2f} | {1e3 / median[name]:.0f} | {ratio:.2f} |"
    peers = [name for name in times if not name.startswith("ssl3d")]
    for kind, names in (("best", peers), ("plain", [name for name in peers if name.endswith("plain")])):
        if names:
            name = min(names, key=median.__getitem__)
            ratio, goal = median[name] / median["ssl3d"], 5 if kind == "best" else 25
            yield f"\nAgainst the fastest {kind} arrangement ({name}): {ratio:.1f} times (goal {goal})."


def hardware() -> str:
    """Processor and versions in one line."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    versions = [
        f"{name} {sys.modules[name].__version__}" for name in ("torch", "torchio", "monai") if name in sys.modules
    ]
    return f"{platform.platform()}, {model or platform.processor()}, one thread; " + ", ".join(versions)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help=f"of {VIEWS} views each")
    parser.add_argument("--size", type=int, nargs=3, default=(16, 112, 112), help="of a view")
    parser.add_argument("--volume-shape", type=int, nargs=3, default=(32, 256, 256), help="of a volume")
    options = parser.parse_args()
    size, shape = tuple(options.size), tuple(options.volume_shape)
    torch.set_num_threads(1)
    torch.manual_seed(0)  # the peers draw from the global state
    voxels = tuple(torch.randint(0, 256, (1, *shape), dtype=torch.uint8) for _ in range(VIEWS))
    mean, std = (torch.stack([f(v.float()) for v in voxels]) for f in (torch.mean, torch.std))
    volumes = Volumes(voxels, mean, std)
    runs = {**dict(ours(volumes, size)), **dict(peers(volumes, size))}
    times = measure(runs, options.repeats)
    print("# Views a second on one core\n")
    print(f"`OMP_NUM_THREADS=1 python benchmarks/speed/views.py {' '.join(sys.argv[1:])}`\n\n{hardware()}\n")
    sizes = [" x ".join(map(str, lengths)) for lengths in (size, shape)]
    print(f"Views of {sizes[0]} of 8-bit volumes of {sizes[1]}; {options.repeats} repeats of {VIEWS} views.\n")
    print("\n".join(table(times)))


if __name__ == "__main__":
    main()

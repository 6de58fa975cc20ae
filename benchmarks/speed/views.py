"""Views a second on one core: ssl3d against torchio and MONAI, the same recipe, interleaved in one run.

    python benchmarks/speed/views.py [--repeats 15] > benchmarks/results/views.md

A view of 16 x 112 x 112 of a uint8 volume of 32 x 256 x 256: crop, in-plane rotation, flip, gamma, contrast,
brightness, blur (half of the views), noise, standardised. torchio has no contrast or brightness of this kind, so it is
timed without. The peers in two arrangements: *plain*, each transform in sequence at full resolution and the resize at
the end, as their tutorials do; *best*, with the geometry first (cropped and resized, or fused into one resampling) and
the intensities at the size of the view. They are handed tensors in memory, as we are. What is measured is processor
time over all threads, so that neither other work on the machine nor a library's own threads count for or against.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl3d.data.augment import Augment, whole
from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes
from ssl3d.recipe import AugmentRecipe

VOLUME, VIEW = (32, 256, 256), (16, 112, 112)
VIEWS = 8  # a repeat
OFF = {"rotate": 0.0, "brightness": 0.0, "contrast": 0.0, "gamma": 0.0, "blur": 0.0, "noise": 0.0}
Run = Callable[[int], object]  # makes VIEWS views


def ours(volumes: Volumes) -> Iterator[tuple[str, Run]]:
    """Yield the full recipe first, then parts of it."""
    positions = range(VIEWS)
    recipes = {"ssl3d": AugmentRecipe(), "ssl3d, geometry alone": AugmentRecipe(**OFF)}
    recipes["ssl3d, geometry alone, rotated"] = AugmentRecipe(**{**OFF, "rotate": 10.0})
    for name, recipe in recipes.items():
        augment = Augment(recipe, VIEW)
        yield name, lambda repeat, augment=augment: augment(volumes, Rng(0, repeat, positions))  # type: ignore[misc]
    yield "ssl3d, whole (nothing random)", lambda _: whole(volumes, VIEW)


def torchio_runs(volumes: Volumes) -> Iterator[tuple[str, Run]]:
    """Yield torchio's arrangements."""
    tio: Any = importlib.import_module("torchio")
    turn = {"degrees": (-10, 10, 0, 0, 0, 0), "translation": 0}
    flip, resize = tio.RandomFlip(axes=(2,), flip_probability=0.5), tio.Resize(VIEW)
    changes = [tio.RandomGamma((-0.26, 0.26)), tio.ZNormalization()]
    changes += [tio.RandomBlur((0.1, 1.0), p=0.5), tio.RandomNoise(std=(0, 0.1))]
    zoomed = tio.RandomAffine(scales=(1.0, 1.5), **turn)
    plain = tio.Compose([zoomed, flip, *changes, resize])
    best = tio.Compose([resize, tio.RandomAffine(scales=0, **turn), flip, *changes])

    def run(transform: Any, crop: bool, repeat: int) -> None:
        for index, voxels in enumerate(volumes.voxels):
            source = cropped(voxels, repeat * VIEWS + index) if crop else voxels
            transform(tio.ScalarImage(tensor=source.float()))

    yield "torchio, plain", lambda repeat: run(plain, False, repeat)
    yield "torchio, cropped and resized first", lambda repeat: run(best, True, repeat)


def monai_runs(volumes: Volumes) -> Iterator[tuple[str, Run]]:
    """Yield MONAI's arrangements."""
    m: Any = importlib.import_module("monai.transforms")
    data: Any = importlib.import_module("monai.data")
    changes = [m.NormalizeIntensity(), m.RandAdjustContrast(prob=1, gamma=(0.77, 1.3))]
    changes += [m.RandScaleIntensityFixedMean(prob=1, factors=0.3), m.RandShiftIntensity(prob=1, offsets=0.3)]
    in_plane = {"sigma_x": (1e-3, 1e-3), "sigma_y": (0.1, 1.0), "sigma_z": (0.1, 1.0)}
    changes += [m.RandGaussianSmooth(prob=0.5, **in_plane), m.RandGaussianNoise(prob=1, std=0.1)]
    flip, resize = m.RandFlip(prob=0.5, spatial_axis=2), m.Resize(VIEW, mode="trilinear")
    turn = {"prob": 1, "rotate_range": (0.17, 0, 0), "padding_mode": "border"}
    crop = m.RandScaleCrop((0.6, 0.63, 0.63), (1.0, 1.0, 1.0), random_size=True)
    zoom = [(-0.4, 0.0), (-0.37, 0.0), (-0.37, 0.0)]
    plain = m.Compose([m.RandAffine(scale_range=zoom, **turn), flip, *changes, resize])
    resized = m.Compose([crop, resize, m.RandAffine(**turn), flip, *changes])
    lazy = m.Compose([crop, m.RandAffine(**turn), flip, resize, *changes], lazy=True)
    # The affine alone can crop and scale: factors of (1.2-2, 1.45-2.29, 1.45-2.29), offsets within the room left.
    onto = {"scale_range": [(0.2, 1.0), (0.446, 1.286), (0.446, 1.286)], "translate_range": (4, 30, 30)}
    fused = m.Compose([m.RandAffine(spatial_size=VIEW, **onto, **turn), flip, *changes])

    def run(transform: Any, meta: bool, _: int) -> None:
        data.set_track_meta(meta)  # what lazy resampling needs, and a cost to the others
        for voxels in volumes.voxels:
            transform(voxels.float())

    yield "MONAI, plain", lambda repeat: run(plain, False, repeat)
    yield "MONAI, cropped and resized first", lambda repeat: run(resized, False, repeat)
    yield "MONAI, lazy (fused)", lambda repeat: run(lazy, True, repeat)
    yield "MONAI, one affine onto the view", lambda repeat: run(fused, False, repeat)


def cropped(voxels: Tensor, key: int) -> Tensor:
    """A random crop for torchio, which has none that is resized after."""
    draw = Rng(0, key, range(3)).numbers()
    lengths = [int(n * (low + (1 - low) * u)) for n, low, u in zip(VOLUME, (0.6, 0.63, 0.63), draw, strict=True)]
    first = [int((n - length) * u) for n, length, u in zip(VOLUME, lengths, draw[::-1], strict=True)]
    d, h, w = (slice(a, a + length) for a, length in zip(first, lengths, strict=True))
    return voxels[:, d, h, w]


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
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    torch.manual_seed(0)  # the peers draw from the global state
    voxels = tuple(torch.randint(0, 256, (1, *VOLUME), dtype=torch.uint8) for _ in range(VIEWS))
    mean, std = (torch.stack([f(v.float()) for v in voxels]) for f in (torch.mean, torch.std))
    runs = dict(ours(Volumes(voxels, mean, std)))
    for peer in (torchio_runs, monai_runs):
        try:
            runs.update(peer(Volumes(voxels, mean, std)))
        except ModuleNotFoundError as error:
            print(f"Left out: {error.name} is not installed; `pip install torchio monai` brings both.\n")
    times = measure(runs, repeats)
    print("# Views a second on one core\n")
    print(f"`OMP_NUM_THREADS=1 python benchmarks/speed/views.py --repeats {repeats}`\n\n{hardware()}\n")
    print("\n".join(table(times)))


if __name__ == "__main__":
    main()

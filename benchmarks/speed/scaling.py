"""Time against the effective batch, the size of a view and the number of volumes: linear, and with which constant.

    OMP_NUM_THREADS=1 python benchmarks/speed/scaling.py
    python benchmarks/speed/scaling.py --device cuda --backbone r3d_18 --size 16 112 112 --micro 16

The loop that runs use, on a packed store of noise: data, augmentation, both passes, optimiser, log. Each table changes
one thing. The line is fitted by least squares of the relative error; its deviation is the largest of the points'. What
is measured is the median over steps (epochs in the third table) of all rounds, in which the points take turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from statistics import median
from typing import TypeVar

import numpy as np
from common import Size, fresh, header, options_of, packed, shape, train

from ssl3d.data.corpus import Corpus
from ssl3d.recipe import EncoderRecipe

T = TypeVar("T")
FACTORS = (0.5, 1.0, 1.5, 2.0)  # of a view's rows and columns


def main() -> None:
    """Print three tables."""
    parser = options_of(__doc__, size=(12, 40, 40), volume_shape=(16, 48, 48), batch=16)
    parser.add_argument("--micro", type=int, default=8, help="micro-batch")
    parser.add_argument("--batches", type=int, nargs="+", default=(8, 16, 32, 64), help="of the first table")
    parser.add_argument("--volumes", type=int, nargs="+", default=(64, 128, 256), help="of the third table")
    options = parser.parse_args()
    print(header(options) + f"; micro-batch {options.micro}")
    with packed(options, max(*options.volumes, *options.batches)) as corpus:
        by_batch(options, corpus)
        by_size(options, corpus)
        by_volumes(options, corpus)


def by_batch(options: argparse.Namespace, corpus: Corpus) -> None:
    """Print the time of a step by the effective batch."""
    batches = list(options.batches)
    times = medians(options, batches, lambda batch: steps(options, corpus, batch, tuple(options.size)))
    table("effective batch", [str(batch) for batch in batches], batches, times, (1e3, "ms a volume"))


def by_size(options: argparse.Namespace, corpus: Corpus) -> None:
    """Print the time of a step by the size of a view."""
    depth, height, width = options.size
    sizes = [(depth, round(height * factor), round(width * factor)) for factor in FACTORS]
    times = medians(options, sizes, lambda size: steps(options, corpus, options.batch, size))
    voxels = [options.batch * int(np.prod(size)) for size in sizes]
    table("view", [shape(size) for size in sizes], voxels, times, (1e9, "ns a voxel of one view of a volume"))


def by_volumes(options: argparse.Namespace, corpus: Corpus) -> None:
    """Print the time of an epoch by the number of volumes."""

    def epochs(count: int) -> list[float]:
        ends = run(options, corpus, recipe_of(options, options.batch, tuple(options.size), 3), count)
        each = -(-count // options.batch)
        return list(np.diff(ends[each - 1 :: each]))

    counts = list(options.volumes)
    table("volumes", [str(n) for n in counts], counts, medians(options, counts, epochs), (1e3, "ms a volume"))


def steps(options: argparse.Namespace, corpus: Corpus, batch: int, size: Size) -> list[float]:
    """Return the times of whole steps, the first left out."""
    return list(np.diff(run(options, corpus, recipe_of(options, batch, size, options.steps + 1), batch)))


def recipe_of(options: argparse.Namespace, batch: int, size: Size, epochs: int) -> EncoderRecipe:
    """Return the recipe of one point."""
    pretraining = {"epochs": epochs, "batch_size": batch, "micro_batch": min(options.micro, batch)}
    values = {"method": options.method, "backbone": options.backbone, "view_size": size, "pretrain": pretraining}
    return EncoderRecipe.checked(values)


def run(options: argparse.Namespace, corpus: Corpus, recipe: EncoderRecipe, volumes: int) -> list[float]:
    """Pretrain on the first volumes of the corpus; return the time at the end of each step."""
    return train(fresh(recipe, options), corpus, volumes, recipe, options.device)


def medians(options: argparse.Namespace, points: Sequence[T], measure: Callable[[T], list[float]]) -> list[float]:
    """Return the median time of each point over all rounds; the points take turns."""
    times: list[list[float]] = [[] for _ in points]
    for _ in range(options.rounds):
        for point, found in zip(points, times, strict=True):
            found.extend(measure(point))
    return [median(found) for found in times]


def table(
    what: str, names: Sequence[str], sizes: Sequence[int], times: Sequence[float], unit: tuple[float, str]
) -> None:
    """Print times, the line through them, and how far from it they are."""
    factor, word = unit
    x, y = np.array(sizes, float), np.array(times)
    slope, start = np.polyfit(x, y, 1, w=1 / y)
    line = start + slope * x
    print(f"\n| {what} | s | {word} | to the line |\n| --- | --- | --- | --- |")
    for name, size, time, fitted in zip(names, sizes, times, line, strict=True):
        print(f"| {name} | {time:.4f} | {factor * time / size:.3g} | {time / fitted:.3f} |")
    deviation = abs(y / line - 1).max()
    print(f"\n{factor * slope:.3g} {word}, and {1e3 * start:.3g} ms; largest deviation {deviation:.1%}")


if __name__ == "__main__":
    main()

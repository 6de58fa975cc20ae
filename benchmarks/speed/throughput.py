"""Pretraining end to end, as a share of what the arithmetic alone allows.

    python benchmarks/speed/throughput.py
    python benchmarks/speed/throughput.py --device cuda --backbone r3d_18 --batch 64 --micro 16

The loop: the one that runs use, over a packed store: data, augmentation, both passes, heads and loss, optimiser,
momentum encoder, logging. Bare: the same forward and backward passes through the backbone and no more, on views that
are in memory already: the same micro-batches, the pass without gradients that exact accumulation makes first, and the
momentum encoder's. The two take turns, and so do one micro-batch for the whole effective batch and several with exact
accumulation.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from statistics import median

import torch
from common import fresh, header, options_of, packed, recipe_of, train
from torch import Tensor

from ssl3d.data.corpus import Corpus
from ssl3d.engine import Engine
from ssl3d.method import AnyMethod, Views
from ssl3d.recipe import PretrainRecipe
from ssl3d.train.encode import BatchEncoder, EffectiveBatch

GOALS = {"whole": 97, "parts": 95}  # percent of the bare loop


def bare(method: AnyMethod, views: Sequence[Views], keep: int, steps: int) -> list[float]:
    """Make the passes of so many steps, and return the time at the end of each.

    Args:
        method: in training mode.
        views: of each micro-batch.
        keep: micro-batches, the last ones, that need no second pass; all of them where there is but one pass.
        steps: how many.
    """
    again, kept = views[: len(views) - keep], views[len(views) - keep :]
    ends = []
    for _ in range(steps):
        method.zero_grad(set_to_none=True)
        with torch.no_grad():
            for part in again:
                encode(method, part)
        graphs = [encode(method, part) for part in kept]
        for features in graphs:
            backward(features)
        for part in again:
            for view, rows in zip(part.tensors, part.view_rows, strict=True):
                backward([method.online(view, rows)])
        if views[0].tensors[0].is_cuda:
            torch.cuda.synchronize()
        ends.append(time.perf_counter())
    return ends


def encode(method: AnyMethod, part: Views) -> list[Tensor]:
    """Return the online network's features of a micro-batch; encode it with the momentum encoder, too."""
    seen = list(zip(part.tensors, part.view_rows, strict=True))
    features = [method.online(view, rows) for view, rows in seen]
    with torch.no_grad():
        for view, rows in seen:
            method.target(view, rows)
    return features


def backward(features: Sequence[Tensor]) -> None:
    """Send a gradient of ones through the backbone."""
    for one in features:
        one.backward(torch.ones_like(one))  # type: ignore[no-untyped-call]


def made(method: AnyMethod, corpus: Corpus, batch: int, micro: int) -> list[Views]:
    """Return the views of an effective batch, one item for each micro-batch."""
    encoder, whole = BatchEncoder(method, corpus), EffectiveBatch(range(batch), 0)
    parts = [range(first, min(first + micro, batch)) for first in range(0, batch, micro)]
    return [encoder.views(whole, part, len(parts)) for part in parts]


def rates(options: argparse.Namespace, corpus: Corpus, micro: int) -> tuple[float, float]:
    """Return volumes a second of the loop and of the bare passes, medians over rounds."""
    steps = 1 + options.steps  # the first is a warm-up
    recipe = recipe_of(options, len(corpus), steps, micro)
    engine = Engine.of(recipe.pretrain or PretrainRecipe(), options.batch)
    views = made(fresh(recipe, options), corpus, options.batch, micro)
    keep = min(engine.keep, len(views))
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(options.rounds):
        loop = train(fresh(recipe, options), corpus, len(corpus), recipe, options.device)
        passes = bare(fresh(recipe, options), views, keep, steps)
        for ends, kind in zip((loop, passes), found, strict=True):
            kind.append(options.steps * options.batch / (ends[steps - 1] - ends[0]))
    return median(found[0]), median(found[1])


def table(options: argparse.Namespace, corpus: Corpus) -> Iterator[str]:
    """Yield the lines of the table as they are measured."""
    yield "| micro-batch | the loop, volumes/s | bare passes, volumes/s | percent of the bare passes | goal |"
    yield "| --- | --- | --- | --- | --- |"
    for name, micro, goal in (
        (f"{options.batch}, the whole effective batch", options.batch, GOALS["whole"]),
        (f"{options.micro}, exact accumulation", options.micro, GOALS["parts"]),
    ):
        loop, passes = rates(options, corpus, micro)
        yield f"| {name} | {loop:.2f} | {passes:.2f} | {100 * loop / passes:.1f} | {goal} |"


def main() -> None:
    """Measure and print."""
    parser = options_of(__doc__)
    parser.add_argument("--micro", type=int, default=8, help="micro-batch of exact accumulation")
    options = parser.parse_args()
    with packed(options, 2 * options.batch) as corpus:
        lines = list(table(options, corpus))
    print(f"{header(options)}\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

"""Volumes a second of pretraining: ssl3d against what one would write instead, side by side in one run.

    python benchmarks/speed/peers.py
    python benchmarks/speed/peers.py --backbone r3d_18 --batch 8 --size 16 64 64
    python benchmarks/speed/peers.py --device cuda --backbone r3d_18 --batch 64

ssl3d: the loop that runs use, over a packed store. The others: lightly's loss, heads and momentum update with AdamW in
a plain PyTorch loop, fed by a DataLoader over the same volumes, 8-bit in memory, through the transforms in
transforms.py. All start from the same backbone weights and take the same effective batch in one piece. A round times
each arrangement once, from when each of the loader's workers has delivered a batch, and the workers are kept busy to
the end: what they had made ahead when the clock started, they have made ahead again when it stops.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

import torch
from common import fresh, header, options_of, packed, recipe_of, train
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead, SimCLRProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from transforms import INSTALL, MakeView, monai_views, torchio_views

from ssl3d.data.corpus import Corpus
from ssl3d.recipe import EncoderRecipe

ARRANGEMENTS = (
    "torchio, plain",
    "torchio, cropped and resized first",
    "MONAI, plain",
    "MONAI, cropped and resized first",
)


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Two views of each volume, as lightly's transforms return them."""

    def __init__(self, volumes: list[Tensor], make: MakeView) -> None:
        self.volumes, self.make = volumes, make

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        keys = torch.randint(2**31, (2,)).tolist()
        first, second = (torch.as_tensor(self.make(self.volumes[index], key)) for key in keys)
        return first, second


class BYOL(nn.Module):
    """BYOL as lightly's examples have it."""

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        self.backbone, self.projection = backbone, BYOLProjectionHead(width, 4096, 256)
        self.prediction = BYOLPredictionHead(256, 4096, 256)
        self.backbone_momentum, self.projection_momentum = copy.deepcopy(backbone), copy.deepcopy(self.projection)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_momentum)
        self.criterion = NegativeCosineSimilarity()

    def loss(self, first: Tensor, second: Tensor, step: int, steps: int) -> Tensor:
        """Move the momentum encoder, and return the loss of two views (B, 1, D, H, W)."""
        momentum = cosine_schedule(step, steps, 0.996, 1.0)
        update_momentum(self.backbone, self.backbone_momentum, momentum)
        update_momentum(self.projection, self.projection_momentum, momentum)
        predicted = [self.prediction(self.projection(self.backbone(view))) for view in (first, second)]
        with torch.no_grad():
            wanted = [self.projection_momentum(self.backbone_momentum(view)) for view in (first, second)]
        loss: Tensor = 0.5 * (self.criterion(predicted[0], wanted[1]) + self.criterion(predicted[1], wanted[0]))
        return loss


class SimCLR(nn.Module):
    """SimCLR as lightly's examples have it."""

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        self.backbone, self.projection = backbone, SimCLRProjectionHead(width, 2048, 128)
        self.criterion = NTXentLoss(temperature=0.1)

    def loss(self, first: Tensor, second: Tensor, step: int, steps: int) -> Tensor:  # noqa: ARG002  # as BYOL's
        """Return the loss of two views (B, 1, D, H, W)."""
        projections = [self.projection(self.backbone(view)) for view in (first, second)]
        loss: Tensor = self.criterion(*projections)
        return loss


def batches(corpus: Corpus, make: MakeView, options: argparse.Namespace, steps: int) -> DataLoader[Any]:
    """Return a loader of so many batches and as many as its workers make ahead, which keeps them at work to the end."""
    volumes = [voxels.cpu() for voxels in corpus.volumes(range(len(corpus)), torch.device("cpu")).voxels]
    pairs = Pairs([voxels.clone() for voxels in volumes], make)
    ahead = 2 * options.workers  # PyTorch's own figure
    sampler = RandomSampler(pairs, replacement=True, num_samples=(steps + ahead) * options.batch)
    cuda = options.device.startswith("cuda")
    return DataLoader(
        pairs,
        options.batch,
        sampler=sampler,
        num_workers=options.workers,
        pin_memory=cuda,
        multiprocessing_context="fork",  # the default on Linux until Python 3.14, and the one that copies nothing
    )


def plain_loop(
    corpus: Corpus, make: MakeView, options: argparse.Namespace, steps: int, recipe: EncoderRecipe
) -> list[float]:
    """Pretrain as one would without ssl3d, and return the time at the end of each step."""
    method = fresh(recipe, options)  # only for its backbone: the same weights
    backbone, device = method.backbone, next(method.parameters()).device
    model = {"byol": BYOL, "simclr": SimCLR}[options.method](backbone, backbone.embed_dim).to(device).train()
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-3, weight_decay=1e-4)
    ends = []
    for step, views in zip(range(steps), batches(corpus, make, options, steps), strict=False):
        first, second = (view.to(device, non_blocking=True) for view in views)
        loss = model.loss(first, second, step, steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()  # logged
        ends.append(time.perf_counter())
    return ends


def rate(ends: list[float], options: argparse.Namespace) -> float:
    """Return volumes a second of the timed steps: those after the first ``workers``."""
    first, last = options.workers - 1, options.workers - 1 + options.steps
    return options.steps * options.batch / (ends[last] - ends[first])


def arrangements(corpus: Corpus, options: argparse.Namespace) -> dict[str, Callable[[], list[float]]]:
    """Return what is timed, by name; raises ModuleNotFoundError without torchio or MONAI."""
    steps = options.workers + options.steps
    recipe = recipe_of(options, len(corpus), steps)
    volume, view = tuple(options.volume_shape), tuple(options.size)
    makers = {**torchio_views(view), **monai_views(volume, view)}
    return {
        "ssl3d": lambda: train(fresh(recipe, options), corpus, len(corpus), recipe, options.device),
        **{
            f"lightly, {name}": lambda make=makers[name]: plain_loop(corpus, make, options, steps, recipe)
            for name in ARRANGEMENTS
        },
    }


def table(rates: Mapping[str, list[float]]) -> Iterator[str]:
    """Yield the lines of the table, and the ratio to the fastest of the others."""
    middle = {name: median(found) for name, found in rates.items()}
    yield "| arrangement | volumes/s | ssl3d is so many times as fast |\n| --- | --- | --- |"
    for name, found in middle.items():
        yield f"| {name} | {found:.2f} | {middle['ssl3d'] / found:.2f} |"
    best = max((name for name in middle if name != "ssl3d"), key=middle.__getitem__)
    yield f"\nAgainst the fastest of the others ({best}): {middle['ssl3d'] / middle[best]:.2f} times."


def main() -> None:
    """Time every arrangement in turn, several times over, and print the table."""
    parser = options_of(__doc__)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="of the loader; one a core")
    options = parser.parse_args()
    options.workers = max(1, options.workers)
    options.steps = -(-options.steps // options.workers) * options.workers  # as many batches from each worker
    torch.manual_seed(0)  # the others draw from the global state
    with packed(options, 2 * options.batch) as corpus:
        try:
            runs = arrangements(corpus, options)
        except ModuleNotFoundError as error:
            sys.exit(f"{error.name} is not installed, and the comparison is with it: {INSTALL}.")
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, run in runs.items():
                rates[name].append(rate(run(), options))
    versions = [f"{name} {importlib.import_module(name).__version__}" for name in ("lightly", "torchio", "monai")]
    print(f"{header(options, *versions)}; {options.workers} loader workers\n")
    print("\n".join(table(rates)))


if __name__ == "__main__":
    main()

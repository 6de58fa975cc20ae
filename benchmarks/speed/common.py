"""What the speed scripts share: noise in a packed store, the real loop with a clock in it, the hardware's name."""

from __future__ import annotations

import argparse
import math
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl3d.card import Card
from ssl3d.data.corpus import Corpus
from ssl3d.data.pack import pack
from ssl3d.data.store import Store
from ssl3d.dataset import Case, Dataset, Volume
from ssl3d.method import AnyMethod
from ssl3d.progress import Progress
from ssl3d.recipe import EncoderRecipe, PretrainRecipe
from ssl3d.run.devices import device_name, open_device, placed
from ssl3d.task import Task
from ssl3d.train.build import build_method
from ssl3d.train.encode import Source
from ssl3d.train.job import Job
from ssl3d.train.pretrain import pretrain

Size = tuple[int, int, int]


class RandomVolumes(Dataset):
    """8-bit noise, made anew from the case's number: as dense as any scan for all that the loop does with it."""

    card = Card(name="Noise", summary="8-bit noise")
    synthetic = True
    name, tasks, view_size = "noise", (Task(name="none"),), (16, 112, 112)

    def __init__(self, count: int, shape: Size) -> None:
        super().__init__()
        self.count, self.shape = count, shape

    def cases(self) -> list[Case]:
        """Return the training cases, and one to test on, which a data set has to have."""
        train = [
            Case(f"{number:04d}", "train", f"{number:04d}", targets={"none": number % 2})
            for number in range(self.count)
        ]
        return [*train, Case("test", "test", "9999", targets={"none": 0})]

    def read(self, case: Case) -> Volume:
        """Return a volume (1, D, H, W)."""
        generator = np.random.default_rng(int(case.source))
        return Volume(generator.integers(0, 256, (1, *self.shape), dtype=np.uint8))


@contextmanager
def packed(options: argparse.Namespace, count: int) -> Iterator[Corpus]:
    """Pack volumes of noise into a folder that lasts as long as the context, and put them where runs put them."""
    with tempfile.TemporaryDirectory() as folder:
        store = pack(RandomVolumes(count, tuple(options.volume_shape)), Path(folder) / "store")
        yield corpus_of(store, options.device)


def corpus_of(store: Store, device: str) -> Corpus:
    """Return the training volumes of a store, on a device where they fit."""
    return Corpus.of([placed(store, open_device(device, "32-true").device)])


@dataclass
class Clock(Progress):
    """Notes when each step ended."""

    ends: list[float] = field(default_factory=list)

    def advance(self, done: int, figures: Mapping[str, float]) -> None:  # noqa: ARG002  # only the time counts
        """Note the time: the loop has read the step's loss by then, so the device is done with it."""
        self.ends.append(time.perf_counter())


def train(method: AnyMethod, source: Source, volumes: int, recipe: EncoderRecipe, device: str) -> list[float]:
    """Pretrain on the first volumes of a source with the loop that runs use; return the time at the end of each step.

    Optimiser, momentum encoder, log and checkpoint are the loop's own; the last checkpoint falls after the last time.
    """
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        fabric = open_device(device, (recipe.pretrain or PretrainRecipe()).precision)
        pretrain(Job(method, source, range(volumes), recipe, "speed", fabric, Path(folder), "speed", clock))
    return clock.ends


def recipe_of(options: argparse.Namespace, volumes: int, steps: int, micro: int | None = None) -> EncoderRecipe:
    """Return a recipe of so many steps, rounded up to whole epochs."""
    pretraining = {"epochs": math.ceil(steps * options.batch / volumes), "batch_size": options.batch}
    return EncoderRecipe.checked(
        {
            "method": options.method,
            "backbone": options.backbone,
            "view_size": tuple(options.size),
            "pretrain": {**pretraining, "micro_batch": micro},
        }
    )


def fresh(recipe: EncoderRecipe, options: argparse.Namespace) -> AnyMethod:
    """Return the method of a recipe on the device, with the weights that its seed decides."""
    return build_method(recipe).to(open_device(options.device, "32-true").device).train()


def options_of(description: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """Return a parser of the options that the scripts share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="byol", choices=("byol", "simclr"))
    parser.add_argument("--backbone", default="tiny", help="tiny, r3d_18, or any other that ssl3d knows")
    parser.add_argument("--size", type=int, nargs=3, default=(16, 112, 112), metavar=("D", "H", "W"), help="of a view")
    parser.add_argument(
        "--volume-shape", type=int, nargs=3, default=(32, 256, 256), metavar=("D", "H", "W"), help="of a volume"
    )
    parser.add_argument("--batch", type=int, default=32, help="effective batch")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--steps", type=int, default=4, help="timed steps, in each round")
    parser.add_argument("--rounds", type=int, default=3, help="times that each arrangement has its turn")
    parser.set_defaults(**defaults)
    return parser


def header(options: argparse.Namespace, *versions: str) -> str:
    """Return hardware, versions and settings in two lines."""
    device = open_device(options.device, "32-true").device
    names = ", ".join((f"torch {torch.__version__}", *versions))
    threads = f", {torch.get_num_threads()} threads" if device.type != "cpu" else ""
    return (
        f"{platform.platform()}, {device_name(device)}{threads}, {names}\n\n"
        f"{options.method} with {options.backbone}, effective batch {options.batch}, views {shape(options.size)} of "
        f"8-bit volumes {shape(options.volume_shape)}; {options.rounds} rounds of {options.steps} steps, medians"
    )


def shape(size: tuple[int, ...]) -> str:
    """Return a size as people write it."""
    return " x ".join(map(str, size))

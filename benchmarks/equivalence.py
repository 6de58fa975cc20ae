"""Whether micro-batches are equivalent to the whole effective batch: in ssl3d, and in the usual training loop.

    OMP_NUM_THREADS=1 python benchmarks/equivalence.py

Every trainable method of ssl3d, with narrow heads, is trained on generated knees in effective batches of six and five
volumes. Each is computed whole, in micro-batches of three by ssl3d, and in micro-batches of three by the usual loop: it
averages the losses of the micro-batches, and after each of them it updates what a method updates once per optimiser
step (momentum encoder, queue, centre).
"""

from __future__ import annotations

import argparse
import copy
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ssl3d.data.augment import Augment
from ssl3d.data.rng import Stream
from ssl3d.data.sets.demo import Demo
from ssl3d.data.volumes import Volumes
from ssl3d.method import AnyMethod, Kept, Momentum
from ssl3d.parts.queue import Queue
from ssl3d.recipe import AugmentRecipe, EncoderRecipe, PretrainRecipe
from ssl3d.registry import load, plugins
from ssl3d.testing.modules import bfloat16
from ssl3d.testing.shrink import shrink
from ssl3d.testing.toys import toy_task
from ssl3d.train.build import budget_of, build_backbone, method_class
from ssl3d.train.encode import BatchEncoder, EffectiveBatch, Part
from ssl3d.train.optimizer import build_optimizer, prepare_step
from ssl3d.train.schedule import Schedule
from ssl3d.train.window import Window

VOLUMES, BATCH, MICRO_BATCH = 11, 6, 3  # an epoch has effective batches of six (3 + 3) and five (3 + 2)
VIEW = (4, 8, 8)
LARGER = {"spark": (8, 32, 32)}  # views of methods that need more than one place in the coarsest map
MAPS = {"backbone": "tiny", "backbone_config": {"norm": "group"}}
TOKENS = {"backbone": "vit3d_tiny", "backbone_config": {"patch": (2, 4, 4)}}
FEW: dict[str, Any] = {"local_crops": 2, "grid": (1, 2, 2)}  # settings that multiply the views or crops of a method
WARMUP = 2  # steps before anything is compared, so that queues are filled and momentum encoders have moved
STEPS = 20
UNLABELLED = 5  # one volume in so many has no label
STILL = 1e-12  # state that moves less is not compared
COLUMNS = {
    "method": "name of the plugin",
    "gradient": "error of the gradient of one effective batch, split by ssl3d, in float64",
    "state": "largest error of a part of the state (weights, momentum encoder, queue) after twenty steps, in float64",
    "float32": "as gradient, in float32",
    "bf16": "as gradient, in bf16 autocast",
    "usual gradient": "as gradient, for the usual loop",
    "usual state": "as state, for the usual loop",
    "differs most": "the part of the state that this largest error of the usual loop is in",
}
Precision = Callable[[], AbstractContextManager[object]]


class Knees:
    """Generated knees in memory, each with a depth of its own: volumes that differ as real ones do."""

    def __init__(self, count: int = VOLUMES) -> None:
        demo = Demo()
        self.voxels = [torch.from_numpy(demo.read(case).voxels) for case in demo.cases()[:count]]

    def volumes(self, indices: Sequence[int], device: torch.device = torch.device("cpu")) -> Volumes:  # noqa: B008
        """Return the volumes with these numbers."""
        voxels = tuple(self.voxels[index].to(device) for index in indices)
        mean = torch.stack([voxel.float().mean() for voxel in voxels])
        return Volumes(voxels, mean, torch.stack([voxel.float().std() for voxel in voxels]))

    def rows(self, names: Iterable[str], indices: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """Return made-up labels, some unknown, patients and case numbers."""
        case = torch.tensor(list(indices), device=device)
        labels = torch.where(case % UNLABELLED == UNLABELLED - 1, -1, case % 2)
        known = {"labels": labels, "patient": case // 2, "case": case}
        return {name: known[name] for name in names}


@contextmanager
def native_kernels() -> Iterator[None]:
    """Use torch's own kernels inside, not oneDNN's; backward passes must be inside as well.

    oneDNN (in torch 2.15) returns NaN as the weight gradient of a bf16 convolution (3, 1, 1) over two slices.
    """
    set_flags: Any = torch.backends.mkldnn.set_flags  # its context manager would warn about a missing Intel GPU
    enabled = set_flags(False)[0]
    try:
        yield
    finally:
        set_flags(enabled)


@dataclass
class Training:
    """A method, its optimiser and its schedule."""

    method: AnyMethod
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    source: Knees

    def batch(self, step: int) -> EffectiveBatch:
        """Return the effective batch of a step."""
        return EffectiveBatch(self.schedule.batch(step), step, self.schedule.progress(step))

    def exact(self, step: int, micro_batch: int, autocast: Precision = nullcontext) -> Callable[[], None]:
        """Compute the gradient by ssl3d; return the updates that follow the optimiser step."""
        batch = self.batch(step)
        outcome = Window(BatchEncoder(self.method, self.source, autocast=autocast), micro_batch).backward(batch)

        def update() -> None:
            outcome.statistics.commit()
            self.method.after_step(batch.progress, outcome.kept)

        return update

    def usual(self, step: int) -> Callable[[], None]:
        """Compute the gradient by the usual loop, whose updates follow each micro-batch."""
        batch, encoder = self.batch(step), BatchEncoder(self.method, self.source)
        self.method.zero_grad(set_to_none=True)
        parts = [Part(len(batch))[start : start + MICRO_BATCH] for start in range(0, len(batch), MICRO_BATCH)]
        for part in parts:
            seen = encoder.features(batch, part)
            with encoder.seeded(Stream.LOSS, step, part):
                loss = self.method.loss(seen)
            (loss.value / len(parts)).backward()  # type: ignore[no-untyped-call]
            rows, sums = ({name: one.detach() for name, one in kept.items()} for kept in (loss.rows, loss.sums))
            self.method.after_step(batch.progress, Kept(rows, sums))
        return lambda: None

    def train(self, steps: range, compute: Compute) -> None:
        """Take optimiser steps, each with a computed gradient and the updates that follow."""
        for step in steps:
            update = compute(self, step)
            prepare_step(self.optimizer, self.schedule, step)
            self.optimizer.step()
            update()

    def gradient(self) -> Tensor:
        """Return the gradient of all parameters as one vector, in float64."""
        trained = (parameter for parameter in self.method.parameters() if parameter.requires_grad)
        return torch.cat([(p.new_zeros(p.shape) if p.grad is None else p.grad).flatten().double() for p in trained])

    def state(self) -> dict[str, Tensor]:
        """Return the floating-point state by part, each as one vector, without statistics that no training reads."""
        parts: dict[str, list[Tensor]] = {}
        for key, value in self.method.state_dict().items():
            if value.is_floating_point() and not key.endswith(("running_mean", "running_var")):
                parts.setdefault(part_of(self.method, key), []).append(value.flatten().double())
        return {name: torch.cat(values) for name, values in parts.items()}


Compute = Callable[[Training, int], Callable[[], None]]


def part_of(method: AnyMethod, key: str) -> str:
    """Return the part of the state that a key of the state dict belongs to, in words."""
    owners = [module for name, module in method.named_modules() if name and key.startswith(f"{name}.")]
    for kind, words in ((Momentum, "momentum encoder"), (Queue, "queue")):
        if any(isinstance(owner, kind) for owner in owners):
            return words
    if key.startswith("backbone."):
        return "backbone"
    return "heads" if key in dict(method.named_parameters()) else key.rpartition(".")[2].replace("_", " ")


def trainable() -> list[str]:
    """Return the names of the methods of ssl3d that train."""
    ours = [name for name, plugin in plugins("methods").items() if plugin.distribution == "ssl3d"]
    kinds = {name: load("methods", name) for name in ours}
    return [name for name, kind in kinds.items() if kind.trains]


def whole(training: Training, step: int) -> Callable[[], None]:
    """Compute an effective batch whole."""
    return training.exact(step, BATCH)


def split(training: Training, step: int) -> Callable[[], None]:
    """Compute an effective batch in micro-batches."""
    return training.exact(step, MICRO_BATCH)


def begin(name: str, source: Knees, steps: int = STEPS) -> Training:
    """Return a training in float64, ``WARMUP`` steps after its start."""
    kind = method_class(name)
    few = {field: value for field, value in FEW.items() if field in kind.Config.model_fields}
    config = kind.Config.checked({**few, **shrink(kind.Config, few)}, f"method.{name}")
    network: dict[str, Any] = TOKENS if kind.needs_tokens else MAPS
    recipe = EncoderRecipe(method=name, **network)
    pretrain = PretrainRecipe(epochs=-(-(WARMUP + steps) // 2), batch_size=BATCH, lr=5e-4, lr_scaling="none")
    backbone = build_backbone(recipe, initialise=False)
    backbone.min_size = VIEW  # type: ignore[misc]  # of this network: it accepts less than its class declares
    task = toy_task("binary") if "labels" in kind.needs else None
    augment = Augment(AugmentRecipe(), LARGER.get(name, VIEW))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = kind(backbone, config, augment, task, budget_of(pretrain, VOLUMES))
    method = method.double().train()
    training = Training(method, build_optimizer(method, pretrain), Schedule.of(pretrain, VOLUMES), source)
    training.train(range(WARMUP), whole)
    return training


def relative(found: Tensor, expected: Tensor) -> float:
    """Return the length of the difference over that of the second."""
    return float((found - expected).norm() / expected.norm())


def gradient_error(start: Training, compute: Callable[[Training], object], precision: Precision = nullcontext) -> float:
    """Return the error of the gradient of one effective batch, relative to the same batch computed whole."""
    reference, other = copy.deepcopy(start), copy.deepcopy(start)
    reference.exact(WARMUP, BATCH, precision)
    compute(other)
    return relative(other.gradient(), reference.gradient())


def state_errors(start: Training, steps: int) -> Iterator[dict[str, float]]:
    """Yield the errors of the final state of a split training and of the usual loop, by part."""
    ends = []
    for compute in (whole, split, Training.usual):
        training = copy.deepcopy(start)
        training.train(range(WARMUP, WARMUP + steps), compute)
        ends.append(training.state())
    yield from (drift(end, ends[0], start.state()) for end in ends[1:])


def drift(found: dict[str, Tensor], expected: dict[str, Tensor], start: dict[str, Tensor]) -> dict[str, float]:
    """Return the distance between two final states, relative to how far the second has moved, by part."""
    moved = {name: float((state - start[name]).norm()) for name, state in expected.items()}
    return {name: float((found[name] - expected[name]).norm()) / far for name, far in moved.items() if far > STILL}


def row(name: str, source: Knees, steps: int = STEPS) -> list[str]:
    """Return the cells of a method."""
    start = begin(name, source, steps)
    single = copy.deepcopy(start)
    single.method.float()
    with native_kernels():
        half = gradient_error(single, lambda one: one.exact(WARMUP, MICRO_BATCH, bfloat16), bfloat16)
    ours, usual = state_errors(start, steps)
    worst = max(usual, key=lambda part: usual[part])
    figures = [
        gradient_error(start, lambda one: split(one, WARMUP)),
        max(ours.values()),
        gradient_error(single, lambda one: split(one, WARMUP)),
        half,
        gradient_error(start, lambda one: one.usual(WARMUP)),
        usual[worst],
    ]
    return [name, *(f"{figure:.1e}" for figure in figures), worst]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=trainable(), help="names of methods; default: all that train")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimiser steps; an even number")
    options = parser.parse_args(arguments)
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, ", end="")
    print(f"threads: {torch.get_num_threads()}\n")
    for cells in (COLUMNS, ["---"] * len(COLUMNS)):
        print(f"| {' | '.join(cells)} |")
    source = Knees()
    for name in options.methods:
        print(f"| {' | '.join(row(name, source, options.steps))} |", flush=True)
    print("\n" + "\n".join(f"- {name}: {meaning}" for name, meaning in COLUMNS.items()))


if __name__ == "__main__":
    main()

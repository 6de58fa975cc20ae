"""What accumulation does to the gradient of an effective batch: its error relative to one pass over the whole batch.

    OMP_NUM_THREADS=1 python benchmarks/exactness.py

Three tables. The first: sixteen small random volumes, a toy backbone of two convolutions, each method with its own
heads (batch norm included), in float64 and float32. The second: sixteen generated knees, the tiny backbone after two
steps, in float32 and under bf16 autocast. The third: how far apart twenty further optimiser steps end.
"""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from ssl3d.backbone import BackboneConfig, Norm
from ssl3d.data.sets.demo import Demo
from ssl3d.data.volumes import Volumes
from ssl3d.method import AnyMethod
from ssl3d.recipe import EncoderRecipe
from ssl3d.testing.modules import bfloat16
from ssl3d.testing.toys import NoisyAugment, ToyBackbone, ToySource
from ssl3d.train.build import build_method, method_class
from ssl3d.train.encode import BatchEncoder, EffectiveBatch, Source
from ssl3d.train.window import Window

COUNT = 16
SPLITS = (8, 4, 2, 1)
METHODS = ("byol", "simclr", "moco")
VIEW, SMALL_VIEW = (8, 24, 24), (4, 16, 18)
WINDOWS = 6  # effective batches that a figure of the second table is taken over
STEPS = 20
Precision = Callable[[], AbstractContextManager[object]]


@contextmanager
def native_kernels() -> Iterator[None]:
    """Compute inside by torch's own kernels, not by oneDNN's; backward passes have to be inside, too.

    oneDNN's (in torch 2.15) give NaN as the weight gradient of a bf16 convolution (3, 1, 1) over two slices, which is
    no matter of accumulation.
    """
    set_flags: Any = torch.backends.mkldnn.set_flags  # its context manager would warn of an absent Intel GPU
    enabled = set_flags(False)[0]
    try:
        yield
    finally:
        set_flags(enabled)


class Knees:
    """Generated knees in memory, uint8, each with a depth of its own: volumes that differ as real ones do."""

    def __init__(self, count: int = COUNT) -> None:
        demo = Demo()
        self.voxels = [torch.from_numpy(demo.read(case).voxels) for case in demo.cases()[:count]]

    def volumes(self, indices: Sequence[int], device: torch.device = torch.device("cpu")) -> Volumes:  # noqa: B008
        """Return the volumes with these numbers."""
        voxels = tuple(self.voxels[index].to(device) for index in indices)
        mean = torch.stack([voxel.float().mean() for voxel in voxels])
        return Volumes(voxels, mean, torch.stack([voxel.float().std() for voxel in voxels]))

    def rows(self, names: Iterable[str], indices: Sequence[int], device: torch.device) -> dict[str, Tensor]:  # noqa: ARG002
        """Return no row: the methods that are measured need voxels alone."""
        return {}


def build(name: str, norm: Norm, dtype: torch.dtype) -> AnyMethod:
    """Return a method on the toy backbone, the same at each call; two windows have filled MoCo's queue."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = method_class(name)(ToyBackbone(BackboneConfig(norm=norm)), None, NoisyAugment()).to(dtype).train()
    for step in (1, 2):
        outcome = Window(BatchEncoder(method, ToySource(COUNT)), COUNT).backward(EffectiveBatch(range(COUNT), step))
        method.after_step(0.0, outcome.kept)
        method.zero_grad(set_to_none=True)
    return method


def build_tiny(
    name: str,
    source: Source,
    view: tuple[int, int, int] = VIEW,
    smooth: bool = False,
    count: int = COUNT,
    **config: int,
) -> AnyMethod:
    """Return a method on the tiny backbone, two optimiser steps from its start.

    Args:
        name: of the method.
        source: of the volumes.
        view: size of its views.
        smooth: put GELU in the place of every ReLU.
        count: volumes of an effective batch.
        config: settings of the method in place of its defaults.
    """
    if name == "moco":
        config.setdefault("queue_size", 1024)
    recipe = EncoderRecipe(
        method=name, method_config=config, backbone="tiny", backbone_config={"norm": "group"}, view_size=view
    )
    method = build_method(recipe).train()
    if smooth:
        for parent in list(method.modules()):
            for child, layer in list(parent.named_children()):
                if isinstance(layer, nn.ReLU):
                    setattr(parent, child, nn.GELU())
    train(method, source, range(2), 4, count)
    return method


def train(method: AnyMethod, source: Source, steps: Iterable[int], micro_batch: int, count: int = COUNT) -> float:
    """Take optimiser steps, with what follows each; return the last loss."""
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], 5e-4)
    loss = 0.0
    for step in steps:
        outcome = Window(BatchEncoder(method, source), micro_batch).backward(EffectiveBatch(range(count), step))
        optimizer.step()
        outcome.statistics.commit()
        method.after_step(step / 100, outcome.kept)
        optimizer.zero_grad(set_to_none=True)
        loss = outcome.scalars["loss"]
    return loss


def gradient(
    method: AnyMethod,
    micro_batch: int,
    exact: bool = True,
    *,
    source: Source | None = None,
    batch: EffectiveBatch | None = None,
    autocast: Precision = nullcontext,
) -> Tensor:
    """Return the gradient of all parameters as one vector."""
    encoder = BatchEncoder(method, source or ToySource(COUNT), 0, autocast)
    Window(encoder, micro_batch, exact).backward(batch or EffectiveBatch(range(COUNT), 0))
    found = torch.cat([p.grad.flatten().double() for p in method.parameters() if p.grad is not None])
    method.zero_grad(set_to_none=True)
    return found


def relative(first: Tensor, second: Tensor) -> float:
    """Return the length of the difference over that of the second."""
    return float((first - second).norm() / second.norm())


def toy_row(name: str, norm: Norm, dtype: torch.dtype) -> str:
    """Return a row of the first table."""
    whole = gradient(build(name, norm, dtype), COUNT)
    arrangements = [(micro_batch, True) for micro_batch in SPLITS] + [(4, False)]
    cells = [relative(gradient(build(name, norm, dtype), micro, exact), whole) for micro, exact in arrangements]
    return _row([name, norm, str(dtype).removeprefix("torch."), *(f"{cell:.1e}" for cell in cells)])


def tiny_row(name: str, source: Source, kind: str) -> str:
    """Return a row of the second table: median and largest over several effective batches."""
    method = build_tiny(name, source, smooth="GELU" in kind)
    autocast: Precision = bfloat16 if kind == "bf16" else nullcontext
    twin = copy.deepcopy(method) if kind == "bf16" else copy.deepcopy(method).double()
    errors: dict[int, list[float]] = {0: [], **{micro: [] for micro in SPLITS}}
    for window in range(2 if kind == "bf16" else WINDOWS):
        batch = EffectiveBatch(range(COUNT), 100 + window)
        whole = gradient(method, COUNT, source=source, batch=batch, autocast=autocast)
        errors[0].append(relative(whole, gradient(twin, COUNT, source=source, batch=batch)))
        for micro in SPLITS:
            errors[micro].append(
                relative(gradient(method, micro, source=source, batch=batch, autocast=autocast), whole)
            )
    return _row([name, kind, *(f"{median(found):.1e} ({max(found):.1e})" for found in errors.values())])


def drift_row(name: str, source: Source, kind: str) -> str:
    """Return a row of the third table: student, momentum encoder (the student again if there is none), loss."""
    start = build_tiny(name, source, SMALL_VIEW, smooth="GELU" in kind, hidden_dim=512)
    start = start.double() if kind == "float64" else start
    ends = []
    for micro in (COUNT, *SPLITS):
        method = copy.deepcopy(start)
        loss = train(method, source, range(2, 2 + STEPS), micro)
        state = {
            key: value.double().flatten() for key, value in method.state_dict().items() if value.is_floating_point()
        }
        student = torch.cat([value for key, value in state.items() if not key.startswith("momentum")])
        momentum = torch.cat([value for key, value in state.items() if key.startswith("momentum")] or [student])
        ends.append((student, momentum, loss))
    whole = ends[0]
    cells = [
        f"{relative(student, whole[0]):.0e}, {relative(momentum, whole[1]):.0e}, {abs(loss / whole[2] - 1):.0e}"
        for student, momentum, loss in ends[1:]
    ]
    return _row([name, kind, *cells])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _head(*columns: str) -> None:
    print(f"\n{_row(columns)}\n{_row(['---'] * len(columns))}")


def main() -> None:
    """Print the tables."""
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}")
    splits = [f"exact, {COUNT // size} x {size}" for size in SPLITS]
    _head("method", "backbone norm", "arithmetic", *splits, "plain, 4 x 4")
    for norm, dtype in (("group", torch.float64), ("group", torch.float32), ("batch", torch.float64)):
        for name in METHODS:
            print(toy_row(name, norm, dtype), flush=True)  # type: ignore[arg-type]  # a literal
    source = Knees()
    _head("method", "arithmetic", "one pass, to the arithmetic above it", *splits)
    for kind in ("float32", "float32, GELU", "bf16"):
        for name in METHODS:
            with native_kernels() if kind == "bf16" else nullcontext():
                print(tiny_row(name, source, kind), flush=True)
    _head("method", "arithmetic", *splits)
    for kind in ("float64", "float32", "float32, GELU"):
        for name in METHODS:
            print(drift_row(name, source, kind), flush=True)


if __name__ == "__main__":
    main()

"""What accumulation does to the gradient of one effective batch: the relative error to a single pass over all of it.

    python benchmarks/exactness.py

Sixteen small random volumes, a toy backbone of two convolutions, each method with its own heads (batch norm included).
"""

from __future__ import annotations

import platform

import torch
from torch import Tensor

from ssl3d.backbone import BackboneConfig, Norm
from ssl3d.method import Method
from ssl3d.testing.toys import NoisyAugment, ToyBackbone, ToySource
from ssl3d.train.build import method_class
from ssl3d.train.encode import Batch, Encoder
from ssl3d.train.window import Window

COUNT = 16
SPLITS = (8, 4, 2, 1)
METHODS = ("byol", "simclr", "moco")


def build(name: str, norm: Norm, dtype: torch.dtype) -> Method:
    """Return a method on the toy backbone, the same at each call; two steps have filled MoCo's queue."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = method_class(name)(ToyBackbone(BackboneConfig(norm=norm)), None, NoisyAugment()).to(dtype).train()
    for step in (1, 2):
        outcome = Window(Encoder(method, ToySource(COUNT)), COUNT).backward(Batch(range(COUNT), step))
        method.after_step(0.0, outcome.kept)
        method.zero_grad(set_to_none=True)
    return method


def gradient(method: Method, micro_batch: int, exact: bool = True) -> Tensor:
    """Return the gradient of all parameters as one vector."""
    Window(Encoder(method, ToySource(COUNT)), micro_batch, exact).backward(Batch(range(COUNT), 0))
    found = torch.cat([p.grad.flatten().double() for p in method.parameters() if p.grad is not None])
    method.zero_grad(set_to_none=True)
    return found


def errors(name: str, norm: Norm, dtype: torch.dtype) -> str:
    """Return a row of the table."""
    whole = gradient(build(name, norm, dtype), COUNT)
    arrangements = [(micro_batch, True) for micro_batch in SPLITS] + [(4, False)]
    cells = []
    for micro_batch, exact in arrangements:
        other = gradient(build(name, norm, dtype), micro_batch, exact)
        cells.append(f"{float((other - whole).norm() / whole.norm()):.1e}")
    return f"| {name} | {norm} | {str(dtype).removeprefix('torch.')} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}\n")
    splits = " | ".join(f"exact, {COUNT // size} x {size}" for size in SPLITS)
    print(f"| method | backbone norm | arithmetic | {splits} | plain, 4 x 4 |")
    print("| --- | --- | --- |" + " --- |" * (len(SPLITS) + 1))
    for dtype in (torch.float64, torch.float32):
        for name in METHODS:
            print(errors(name, "group", dtype))
    for name in METHODS:
        print(errors(name, "batch", torch.float64))


if __name__ == "__main__":
    main()

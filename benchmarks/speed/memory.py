"""Peak memory of one effective batch: exact accumulation against one micro-batch alone, and against a single pass.

    OMP_NUM_THREADS=1 python benchmarks/speed/memory.py
    python benchmarks/speed/memory.py --device cuda --backbone r3d_18 --size 16 112 112

The gradient of one effective batch, weights, gradients and views included, the optimiser's state left out. On CUDA it
is torch.cuda.max_memory_allocated. On a CPU it is the largest sum of what torch's allocator had handed out and not got
back, from the events of torch.profiler, plus the weights; that is checked against tensors of known size at each start.
Memory that oneDNN takes for itself is not in it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from window import Noise

from ssl3d.method import AnyMethod, Batch, Views
from ssl3d.recipe import EncoderRecipe
from ssl3d.run.devices import device_name
from ssl3d.train.build import build_method
from ssl3d.train.encode import BatchEncoder, EffectiveBatch
from ssl3d.train.window import Window

BUDGETS = (0.5, 1, 2, 4, 8, 16, 24, 80)  # GB
LOSSES = (512, 1024, 2048)  # effective batches that the memory of the loss is fitted on


class Forgetful(BatchEncoder):
    """Makes views again for the second pass, as it does by itself where they are too large to be kept."""

    def views(self, batch: EffectiveBatch, part: range, parts: int = 1) -> Views:
        """Return the views of a part."""
        views = super().views(batch, part, parts)
        self.forget()
        return views


def main() -> None:
    """Print two tables: what was measured, and which effective batches it lets fit into a given memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--method", default="byol")
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--size", type=int, nargs=3, default=(12, 40, 40))
    parser.add_argument("--micro", type=int, default=8)
    parser.add_argument("--batches", type=int, nargs="+", default=(8, 16, 32, 64, 128, 256))
    parser.add_argument(
        "--single", type=int, default=64, help="largest effective batch in a single pass; two or more are needed"
    )
    options = parser.parse_args()
    if len([count for count in options.batches if count <= options.single]) < 2:
        parser.error("--single must reach two of --batches, for a line through them")
    device = torch.device(options.device)
    check(device)
    recipe = EncoderRecipe(method=options.method, backbone=options.backbone, view_size=tuple(options.size))
    method = build_method(recipe).to(device).train()
    print(
        f"{device_name(device)}, torch {torch.__version__}; {options.method} with {options.backbone}, micro-batch "
        f"{options.micro}, views {' x '.join(map(str, options.size))}\n"
    )
    step = Steps(method, Noise(tuple(options.size), device), options.micro, device)
    singles = measured(step, options.batches, options.single)
    curve(step, singles)


class Steps:
    """The peaks of one method's effective batches, in bytes."""

    def __init__(self, method: AnyMethod, source: Noise, micro: int, device: torch.device) -> None:
        self.method, self.source, self.micro, self.device = method, source, micro, device

    def peak(self, count: int, micro: int, encoder: type[BatchEncoder] = BatchEncoder) -> int:
        """Return the peak of one effective batch of ``count`` volumes."""
        self.method.zero_grad(set_to_none=True)
        window = Window(encoder(self.method, self.source), micro)
        found = peak(lambda: window.backward(EffectiveBatch(range(count), 0)), self.device)
        self.method.zero_grad(set_to_none=True)
        return found + (_held(self.method) if self.device.type == "cpu" else 0)

    def of_the_loss(self, count: int) -> int:
        """Return the peak of heads and loss alone, with the features and their gradients."""
        encoder = BatchEncoder(self.method, self.source)
        few = range(min(2, self.micro))
        seen, width = encoder.features(EffectiveBatch(few, 0), few), self.method.backbone.embed_dim

        def loss() -> None:
            online = tuple(torch.randn(count, width, device=self.device, requires_grad=True) for _ in seen.online)
            target = tuple(torch.randn(count, width, device=self.device) for _ in seen.target)
            self.method.loss(Batch(online, target)).value.backward()  # type: ignore[no-untyped-call]

        before = 0 if self.device.type == "cpu" else torch.cuda.memory_allocated(self.device)
        found = peak(loss, self.device) - before
        self.method.zero_grad(set_to_none=True)
        return found


def measured(step: Steps, batches: Sequence[int], largest: int) -> dict[int, int]:
    """Print the first table; return the peaks of the single passes by effective batch."""
    step.peak(step.micro, step.micro)  # what is allocated once and for all
    one = step.peak(step.micro, step.micro)
    print(f"One micro-batch of {step.micro} alone: {_mb(one)} MB, of them {_mb(_held(step.method))} MB weights.\n")
    print("| effective batch | exact, MB | to one micro-batch | views made again, MB | to one | single pass, MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    singles = {}
    for count in batches:
        kept, again = step.peak(count, step.micro), step.peak(count, step.micro, Forgetful)
        if count <= largest:
            singles[count] = step.peak(count, count)
        single = _mb(singles[count]) if count in singles else "not run"
        print(f"| {count} | {_mb(kept)} | {kept / one:.2f} | {_mb(again)} | {again / one:.2f} | {single} |", flush=True)
    return singles


def curve(step: Steps, singles: dict[int, int]) -> None:
    """Print the second table: a single pass by a straight line, ours by a bound, one micro-batch and the whole loss."""
    slope, start = np.polyfit(list(singles), list(singles.values()), 1)
    square, line, fixed = np.polyfit(LOSSES, [step.of_the_loss(count) for count in LOSSES], 2)
    square = square if square * LOSSES[-1] > 0.02 * line else 0.0  # less is the fit's own error
    one = step.peak(step.micro, step.micro) + max(fixed, 0.0)
    print(
        f"\nExtrapolated. Single pass: {_mb(start)} MB + {slope / 1e6:.3g} MB a volume, measured up to {max(singles)}."
        f"\nExact, at most: {_mb(one)} MB, for one micro-batch and the heads' gradients, + {line / 1e3:.3g} kB a "
        f"volume + {square:.2g} B a pair of volumes, for features, heads and loss.\n"
    )
    print("| memory, GB | largest effective batch, single pass | exact, micro-batch " + f"{step.micro} |")
    print("| --- | --- | --- |")
    for budget in BUDGETS:
        single = max(0, int((budget * 1e9 - start) / slope))
        print(f"| {budget:g} | {single} | {_most(budget * 1e9 - one, line, square)} |")


def _most(room: float, line: float, square: float) -> int | str:
    """Return the largest N with line N + square N^2 within the room."""
    if room <= 0:
        return "not even one micro-batch"
    if square * room < 1e-9 * line**2:
        return int(room / line)
    return int((math.sqrt(line**2 + 4 * square * room) - line) / (2 * square))


def peak(run: Callable[[], object], device: torch.device) -> int:
    """Return the most bytes that were allocated at once while running; on CUDA with what was there before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=False) as profiled:
        run()
    results = profiled.profiler.kineto_results  # type: ignore[union-attr]
    events = [event for event in results.events() if event.name() == "[memory]"]
    return int(np.cumsum([event.nbytes() for event in sorted(events, key=lambda e: e.start_ns())]).max(initial=0))


def check(device: torch.device) -> None:
    """Measure something known: two tensors of 8 MB at once, one of them freed before a third of 4 MB comes."""

    def known() -> torch.Tensor:
        first = torch.ones(2_000_000, device=device)
        second = first * 2
        del first
        return second[:1] + torch.ones(1_000_000, device=device)

    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    found = peak(known, device) - before
    if abs(found - 16_000_000) > 100_000:
        raise RuntimeError(f"measured {found} bytes where there were 16000000: do not believe this script here")


def _held(method: AnyMethod) -> int:
    tensors = [*method.parameters(), *method.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _mb(size: float) -> str:
    return f"{size / 1e6:.1f}"


if __name__ == "__main__":
    main()

r"""A slice of the paper's pretraining on the device at hand: the time of the whole, and the share of the bf16 peak.

    python benchmarks/speed/gpu.py --device cuda
    python benchmarks/speed/gpu.py --device cpu --volumes 8 --plane 40 --size 8 32 32 --batch 4 --steps 2 --warmup 1 \
        --precision 32-true

1,130 generated exams with the shapes of MRNet's sagittal ones (17 to 51 slices of 256 x 256, 8 bit), BYOL on r3d_18
with group norm, views of 16 x 112 x 112, 100 epochs, effective batch 64, bf16. The loop is the one that runs use:
packed store, augmentation, both networks, heads, optimiser, momentum encoder, log. Operations are the backbone's alone,
those of a second forward pass included; peaks are those of NVIDIA's data sheets, without sparsity.
"""

from __future__ import annotations

import argparse
import math
import re
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import RandomVolumes, corpus_of, fresh, shape, train

from ssl3d.data.pack import pack
from ssl3d.dataset import Case, Volume
from ssl3d.recipe import EncoderRecipe, PretrainRecipe
from ssl3d.run.devices import device_name, open_device
from ssl3d.train.cost import forward_flops, pretrain_flops
from ssl3d.train.schedule import Schedule

SLICES = (17, 51)
PEAKS = (  # words of the device's name, dense bf16 TFLOP/s in its data sheet
    ({"H200"}, 989.0),
    ({"H100", "HBM3"}, 989.0),
    ({"H100", "PCIe"}, 756.0),
    ({"A100"}, 312.0),
    ({"A30"}, 165.0),
    ({"A10"}, 125.0),
    ({"L40S"}, 362.0),
    ({"L4"}, 121.0),
)


class Exams(RandomVolumes):
    """Noise with a depth of its own for each exam."""

    def read(self, case: Case) -> Volume:
        """Return a volume (1, D, H, W)."""
        generator = np.random.default_rng(int(case.source))
        depth = int(generator.integers(SLICES[0], SLICES[1] + 1))
        return Volume(generator.integers(0, 256, (1, depth, *self.shape[1:]), dtype=np.uint8))


def main() -> None:
    """Print what was measured beside what the arithmetic says."""
    options = read_options()
    recipe = recipe_of(options, options.epochs)
    schedule = Schedule.of(recipe.pretrain or PretrainRecipe(), options.volumes)
    method = fresh(recipe, options)
    whole = pretrain_flops(method, recipe, options.volumes)
    epochs = math.ceil((options.warmup + options.steps) / schedule.steps_per_epoch)
    with tempfile.TemporaryDirectory() as folder:
        store = pack(Exams(options.volumes, (0, options.plane, options.plane)), Path(folder) / "store")
        corpus = corpus_of(store, options.device)
        ends = train(method, corpus, len(corpus), recipe_of(options, epochs), options.device)
    ends = ends[options.warmup - 1 : options.warmup + options.steps]
    seconds = (ends[-1] - ends[0]) / (len(ends) - 1)
    report(
        options,
        method_flops=forward_flops(method.backbone, recipe.view_size),
        whole=whole,
        steps=schedule.steps,
        seconds=seconds,
    )


def read_options() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--method", default="byol")
    parser.add_argument("--backbone", default="r3d_18")
    parser.add_argument("--size", type=int, nargs=3, default=(16, 112, 112))
    parser.add_argument("--plane", type=int, default=256, help="rows and columns of an exam")
    parser.add_argument("--volumes", type=int, default=1130)
    parser.add_argument("--epochs", type=int, default=100, help="of the whole pretraining")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--micro", type=int, help="the effective batch if unset")
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--warmup", type=int, default=18, help="steps before the clock is looked at, at least one")
    parser.add_argument("--steps", type=int, default=36)
    parser.add_argument("--peak", type=float, help="dense bf16 TFLOP/s of the device, where this script knows none")
    options = parser.parse_args()
    if min(options.warmup, options.steps) < 1:
        parser.error("--warmup and --steps must be 1 or more")
    return options


def recipe_of(options: argparse.Namespace, epochs: int) -> EncoderRecipe:
    """Return the recipe, for so many epochs."""
    pretraining = {"epochs": epochs, "batch_size": options.batch, "micro_batch": options.micro}
    pretraining |= {"precision": options.precision, "channels_last": options.channels_last}
    values = {"method": options.method, "backbone": options.backbone, "view_size": tuple(options.size)}
    return EncoderRecipe.checked({**values, "pretrain": {**pretraining, "compile": options.compile}})


def peak_of(name: str) -> float | None:
    """Return the dense bf16 peak of a device in TFLOP/s, or None where the table does not hold it."""
    words = set(re.split(r"[\s-]+", name))
    return next((peak for wanted, peak in PEAKS if wanted <= words), None)


def report(options: argparse.Namespace, method_flops: int, whole: float, steps: int, seconds: float) -> None:
    """Print the figures, one a row."""
    name = device_name(open_device(options.device, "32-true").device)
    peak = options.peak or peak_of(name)
    rate = whole / steps / seconds
    rows = {
        "steps a second": f"{1 / seconds:.3f} (mean of {options.steps} after {options.warmup})",
        "volumes a second": f"{options.batch / seconds:.1f}",
        f"projected time of all {steps} steps": f"{steps * seconds / 60:.1f} min",
        "operations of one view, forward": f"{method_flops / 1e9:.4g} GFLOP",
        "operations of the whole": f"{whole / 1e15:.4g} PFLOP",
        "operations a second": f"{rate / 1e12:.3g} TFLOP/s",
        "bf16 peak": f"{peak:g} TFLOP/s" if peak else "not known here: give it with --peak",
        "share of the peak": f"{rate / peak / 1e12:.1%}" if peak else "not known",
        "floor: operations / peak": f"{whole / peak / 1e12 / 60:.4g} min" if peak else "not known",
    }
    print(
        f"{name}, torch {torch.__version__}; {options.method} with {options.backbone}, {options.volumes} volumes, "
        f"{options.epochs} epochs, effective batch {options.batch}, micro-batch {options.micro or options.batch}, "
        f"views {shape(options.size)}, {options.precision}\n\n| | |\n| --- | --- |"
    )
    print("\n".join(f"| {what} | {figure} |" for what, figure in rows.items()))


if __name__ == "__main__":
    main()

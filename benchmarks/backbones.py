"""Every registered backbone: size, cost, input, read-outs and published weights. Nothing is trained or downloaded.

python benchmarks/backbones.py > benchmarks/results/backbones.md
"""

from __future__ import annotations

import torch

from ssl3d import registry
from ssl3d.backbone import Backbone
from ssl3d.registry import split_variant
from ssl3d.train.build import backbone_class
from ssl3d.train.cost import forward_flops

SIZE = (16, 112, 112)
FAMILIES = {"timm": ("resnet18", "resnet50", "convnext_tiny", "vit_small_patch16_224", "vit_small_patch14_dinov2")}
INTRODUCTION = """# Backbones

`python benchmarks/backbones.py > benchmarks/results/backbones.md` counts this on torch's meta device: nothing is
trained, timed or downloaded. GFLOP are billions of operations of a forward pass on one view of 16 x 112 x 112 voxels
(slices, rows, columns), a multiply-add as two; training costs about three times as many, with exact accumulation up to
four. A backbone accepts any size from its smallest input upwards; the native one is that of its weights' training.
Methods that mask or drop patches need tokens. `swinunetr` needs MONAI (`pip install 'ssl3d[monai]'`).

"""
COLUMNS = (
    "backbone",
    "parameters, M",
    "GFLOP",
    "smallest input",
    "read-outs",
    "tokens",
    "weights: native input, licence",
)


def build(name: str) -> Backbone:
    """Return a backbone with its default settings, on the meta device unless it reads a value while it is built."""
    kind, variant = backbone_class(name), split_variant("backbones", name)[1]
    try:
        with torch.device("meta"):
            return kind(kind.Config(), variant)
    except RuntimeError:
        return kind(kind.Config(), variant)


def row(name: str) -> tuple[str, ...]:
    """Return the cells of a backbone, in the order of ``COLUMNS``."""
    backbone = build(name)
    parameters = sum(parameter.numel() for parameter in backbone.parameters()) / 1e6
    weights = [f"{key}: {_size(one.size)}, {one.licence}" for key, one in backbone.weights.items()]
    return (
        f"`{name}`",
        f"{parameters:.1f}",
        f"{forward_flops(backbone, SIZE) / 1e9:.1f}",
        _size(backbone.min_size),
        ", ".join(backbone.readout_names),
        "yes" if backbone.tokens else "no",
        "; ".join(weights) or "none",
    )


def names() -> list[str]:
    """Return the backbones of this project, and some members of each family."""
    registered = [name for name, plugin in registry.plugins("backbones").items() if plugin.distribution == "ssl3d"]
    members = [f"{name}/{member}" for name in registered for member in FAMILIES.get(name, ())]
    return sorted({*registered, *members} - FAMILIES.keys())


def line(cells: tuple[str, ...]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def _size(size: tuple[int, int, int]) -> str:
    return " x ".join(map(str, size))


if __name__ == "__main__":
    print(INTRODUCTION + line(COLUMNS) + "\n" + line(("---",) * len(COLUMNS)))
    for name in names():
        print(line(row(name)))

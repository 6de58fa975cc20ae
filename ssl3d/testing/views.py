"""Rules for views and their rows: what they are made of, and what they leave alone."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl3d.data.rng import Rng
from ssl3d.testing.kit import COUNT, MethodKit, tensors_of
from ssl3d.testing.randomness import seeded, untouched
from ssl3d.testing.runner import require

ALONE = range(2, 5)  # volumes that are encoded without their neighbours


def check_views_have_the_right_shape(kit: MethodKit) -> None:
    """Views are finite tensors (B, C, D, H, W) with one row per volume, and so are their rows, whatever the volumes."""
    kit.must_train()
    for name, tensor in tensors_of(kit.views(kit.build())).items():
        finite = not tensor.is_floating_point() or bool(tensor.isfinite().all())
        require(finite, f"views: {name} has values that are not finite; look for a division by zero or a log of zero")
        if name.startswith("view "):
            require(tensor.is_floating_point(), f"views: {name} is {tensor.dtype}; return floating point")


def check_views_draw_from_rng_alone(kit: MethodKit) -> None:
    """Views draw from the rng that they are handed: equal rng, equal views, and no global random state moves."""
    method = kit.build()
    with seeded(1), untouched("views", "draw every number from rng"):
        first = kit.views(method)
    with seeded(2):
        again = kit.views(method)
    for name, (ours, theirs) in _pairs(tensors_of(first), tensors_of(again)).items():
        require(torch.equal(ours, theirs), f"views: {name} differs the second time; draw every number from rng")


def check_views_differ_between_steps(kit: MethodKit) -> None:
    """Views of the same volumes, or their rows, differ between steps."""
    method = kit.build()
    pairs = _pairs(tensors_of(kit.views(method, step=0)), tensors_of(kit.views(method, step=1)))
    same = all(torch.equal(ours, theirs) for ours, theirs in pairs.values())
    require(not same, "views and rows of step 0 equal those of step 1; draw from the rng that is handed in")


def check_views_leave_the_volumes(kit: MethodKit) -> None:
    """Views do not change the volumes that they are made of."""
    method, volumes, original = kit.build(), kit.volumes(), kit.volumes()
    method.views(volumes, Rng(0, 0, range(COUNT)))
    for number, (now, before) in enumerate(zip(volumes.voxels, original.voxels, strict=True)):
        require(torch.equal(now, before), f"views changed the voxels of volume {number}; work on a copy")
    same = torch.equal(volumes.mean, original.mean) and torch.equal(volumes.std, original.std)
    require(same, "views changed the volumes' mean or std; work on a copy")


def check_views_do_not_depend_on_neighbours(kit: MethodKit) -> None:
    """A volume's views and rows are the same whatever else is in its micro-batch."""
    method = kit.build()
    whole, alone = tensors_of(kit.views(method)), tensors_of(kit.views(method, part=ALONE))
    for name, (ours, theirs) in _pairs(whole, alone).items():
        part = ours[ALONE.start : ALONE.stop]
        close = torch.allclose(part.double(), theirs.double(), rtol=0, atol=1e-5)
        require(
            close, f"views: {name} of a volume changes with the other volumes of its micro-batch; use its own alone"
        )


def _pairs(first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """The tensors of two sets of views, side by side; fails if one has others."""
    require(
        first.keys() == second.keys(), f"views return now {', '.join(first)}, now {', '.join(second)}; be consistent"
    )
    for name, tensor in first.items():
        require(
            tensor.shape[1:] == second[name].shape[1:],
            f"views: {name} has now the shape {tuple(tensor.shape)}, now {tuple(second[name].shape)}; keep it",
        )
    return {name: (tensor, second[name]) for name, tensor in first.items()}

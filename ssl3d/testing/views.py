"""Rules for views: what they are made of, and what they leave alone."""

from __future__ import annotations

import torch

from ssl3d.testing.kit import COUNT, MethodKit
from ssl3d.testing.randomness import seeded, untouched
from ssl3d.testing.runner import NotApplicable, require


def check_views_have_the_right_shape(kit: MethodKit) -> None:
    """Views are a tuple of finite tensors (B, 1, D, H, W), one row a volume, whatever the volumes' shapes."""
    if not kit.kind.trains:
        raise NotApplicable("it is judged as it is built, without training")
    views = kit.views(kit.build())
    require(isinstance(views, tuple) and views, "views must return a tuple of tensors")
    for number, view in enumerate(views):
        shape = tuple(view.shape)
        require(len(shape) == 5 and shape[:2] == (COUNT, 1), f"view {number} of {COUNT} volumes has the shape {shape}")
        require(view.is_floating_point() and view.isfinite().all(), f"view {number} is not finite floating point")


def check_views_draw_from_rng_alone(kit: MethodKit) -> None:
    """Views draw from the rng that they are handed: equal rng, equal views, and no global random state moves."""
    method = kit.build()
    with seeded(1), untouched("views"):
        first = kit.views(method)
    with seeded(2):
        again = kit.views(method)
    equal = all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    require(equal, "the same volumes and rng give other views the second time; draw every number from rng")


def check_views_differ_between_steps(kit: MethodKit) -> None:
    """Views of the same volumes are others in another step."""
    method = kit.build()
    pairs = zip(kit.views(method, step=0), kit.views(method, step=1), strict=True)
    require(not all(torch.equal(one, other) for one, other in pairs), "the views of step 0 and of step 1 are equal")


def check_views_leave_the_volumes(kit: MethodKit) -> None:
    """Views do not change the volumes that they are made of."""
    method, volumes, original = kit.build(), kit.volumes(), kit.volumes()
    method.views(volumes, kit.rng(range(COUNT)))
    for number, (now, before) in enumerate(zip(volumes.voxels, original.voxels, strict=True)):
        require(torch.equal(now, before), f"views changed the voxels of volume {number}; work on a copy")
    same = torch.equal(volumes.mean, original.mean) and torch.equal(volumes.std, original.std)
    require(same, "views changed the volumes' mean or std; work on a copy")


def check_views_do_not_depend_on_neighbours(kit: MethodKit) -> None:
    """A volume's views are the same whatever else is in its micro-batch."""
    method = kit.build()
    whole, part = kit.views(method), range(2, 5)
    for number, (view, alone) in enumerate(zip(whole, kit.views(method, part=part), strict=True)):
        close = torch.allclose(view[2:5], alone, rtol=0, atol=1e-5)
        require(close, f"view {number} of a volume changes with the other volumes of its micro-batch")

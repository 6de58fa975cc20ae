"""Checks for anything that would make artifacts of a run fail, before the first volume is read."""

from __future__ import annotations

from pathlib import Path

import torch

from ssl3d.data.check_cases import checked_cases
from ssl3d.errors import RecipeError, UserError
from ssl3d.run.devices import open_device
from ssl3d.run.options import Options
from ssl3d.run.planning.plan import Plan, Request
from ssl3d.run.volumes import needed_splits
from ssl3d.task import Task
from ssl3d.train.build import build_backbone, build_method, method_class


def check_inputs(plan: Plan, options: Options) -> None:
    """Check tables of cases, the device, networks with their settings, and the weights file.

    Raises:
        UserError: one of them cannot be used.
    """
    for data_plane in plan.planes:
        checked_cases(data_plane.dataset, needed_splits(plan, data_plane))
    check_device(plan, options)
    for request in _different(plan):
        _check_builds(plan, request)
    if options.weights is not None:
        _check_weights(plan, options.weights)


def check_device(plan: Plan, options: Options) -> None:
    """Check that the device exists, and supports every precision of a plan.

    Raises:
        RecipeError: it does not.
    """
    for precision in sorted({_precision(request) for request in plan.requests}):
        open_device(options.device, precision)


def _precision(request: Request) -> str:
    pretrain = request.recipe.pretrain
    return pretrain.precision if pretrain else "32-true"


def _different(plan: Plan) -> list[Request]:
    """Return one request per method and backbone, with their settings."""
    found = {}
    for request in plan.requests:
        recipe = request.recipe
        found[recipe.model_copy(update={"seed": 0, "corpus": ()}).canonical()] = request
    return list(found.values())


def _check_builds(plan: Plan, request: Request) -> None:
    """Build a method without allocating its weights, to find invalid settings."""
    tasks: dict[str, Task] = {task.name: task for one in plan.planes for task in one.dataset.tasks}
    try:
        with torch.device("meta"):
            build_method(request.recipe, initialise=False, task=tasks.get(request.recipe.task or ""))
    except UserError:
        raise
    except Exception:  # it needs real weights or is broken: then only this one fails, when it is made
        return


def _check_weights(plan: Plan, file: Path) -> None:
    """Load the weights file into each backbone that is to start from it."""
    starting = {
        request.recipe.backbone: request.recipe
        for request in plan.requests
        if method_class(request.recipe.method).initial_weights is not None
    }
    if not starting:
        raise RecipeError(
            f"--weights {file} is given, and no encoder of this run starts from pretrained weights; leave it out, or "
            "add a method that does (`ssl3d list`) and a backbone that has such weights (`ssl3d show`)"
        )
    for recipe in starting.values():
        build_backbone(recipe, file)

"""Checks for anything that would make artifacts of a run fail, before the first volume is read."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ssl3d.data.check_cases import checked_cases
from ssl3d.errors import UserError
from ssl3d.recipe import EncoderRecipe, canonical
from ssl3d.run.devices import open_device
from ssl3d.run.options import Options
from ssl3d.run.planning.plan import Plan, Request
from ssl3d.run.volumes import needed_splits
from ssl3d.run.weights import weights_hash
from ssl3d.task import Task
from ssl3d.train.build import build_backbone, build_method, method_class


def check_inputs(plan: Plan, options: Options, fetch: bool = True) -> None:
    """Check tables of cases, the device, networks with their settings, and the weights that they start from.

    Args:
        plan: plan of the run.
        options: the device, and a local file of weights.
        fetch: download published weights that were asked for. Those of controls are fetched when they are made, and
            fail alone.

    Raises:
        UserError: one of them cannot be used.
    """
    for data_plane in plan.planes:
        checked_cases(data_plane.dataset, needed_splits(plan, data_plane))
    if options.jobs > 0:  # otherwise nothing is computed here: each worker checks its own device
        check_device(plan, options)
    for request in _different(plan):
        _check_builds(plan, request)
    for recipe in _starting(plan, options, fetch):
        build_backbone(recipe, options.weights)


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


def _starting(plan: Plan, options: Options, fetch: bool) -> Iterator[EncoderRecipe]:
    """Yield one recipe per backbone, settings and weights to start from, where the weights are at hand or asked for."""
    seen = set()
    for recipe in (request.recipe for request in plan.requests):
        which = canonical(recipe.model_dump(mode="json", include={"backbone", "backbone_config", "init"}))
        if recipe.init is None or which in seen:
            continue
        if recipe.init.sha256 is None and method_class(recipe.method).control and recipe.pretrain is None:
            continue
        seen.add(which)
        if recipe.init.sha256 is None and not fetch and weights_hash(recipe, options.weights, fetch=False)[1]:
            continue  # not there yet
        yield recipe

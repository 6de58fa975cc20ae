"""A run made in several calls: the experiment that asks for everything that they asked for. Loads no torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from ssl3d.experiment import Experiment

Recipes = Iterable[Mapping[str, Any]]
Which = tuple[str, str, int, str, str]  # method, backbone, seed, task, plane


def grown(earlier: Experiment, now: Experiment, recipes: Recipes) -> Experiment:
    """Return an experiment that spreads out into the cells of two, at least.

    It may spread out into more: every method, with every backbone, seed, task and plane.

    Args:
        earlier: what the folder was asked for before; both share :meth:`Experiment.base`.
        now: what it is asked for now; its settings of a method or backbone win.
        recipes: of all cells of the folder, as plan.json holds them; they know the tasks and planes of each.
    """
    recipes = list(recipes)
    values: dict[str, Any] = {}
    values |= {name: _union(getattr(earlier, name), getattr(now, name)) for name in ("methods", "backbones", "seeds")}
    values |= {name: {**getattr(earlier, name), **getattr(now, name)} for name in ("method", "backbone")}
    values["baselines"] = earlier.baselines or now.baselines
    places = {}
    for name in ("task", "plane"):
        if getattr(earlier.data, name) != getattr(now.data, name):
            places[name] = tuple(dict.fromkeys(r["data"][name] for r in recipes if r["data"].get(name))) or None
    return now.model_copy(update={**values, "data": now.data.model_copy(update=places)})


def beyond(experiment: Experiment, recipes: Recipes) -> list[Which]:
    """Return what an experiment asks for and a folder has no cell of; methods that it names, not baselines.

    Args:
        experiment: what is asked for.
        recipes: of all cells of the folder, as plan.json holds them.
    """
    there = [_which(recipe) for recipe in recipes]
    tasks, planes = dict.fromkeys(which[3] for which in there), dict.fromkeys(which[4] for which in there)
    asked = itertools.product(experiment.methods, experiment.backbones, experiment.seeds, tasks, planes)
    return [which for which in dict.fromkeys(asked) if which not in there]


def words(which: Which) -> str:
    """Return what tells a cell from others as text: "byol on tiny, seed 1, acl, sagittal"."""
    method, backbone, seed, *place = which
    return ", ".join([f"{method} on {backbone}", f"seed {seed}", *filter(None, place)])


def _union(*values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(itertools.chain(*values)))


def _which(recipe: Mapping[str, Any]) -> Which:
    data = recipe["data"]
    return recipe["method"], recipe["backbone"], recipe["seed"], data.get("task") or "", data.get("plane") or ""

"""What is said before training about settings that do not fit the corpus, or were adapted to it."""

from __future__ import annotations

from collections.abc import Iterable

from ssl3d.data.folds import training_volumes
from ssl3d.recipe import EncoderRecipe
from ssl3d.run.graph import Graph
from ssl3d.run.names import short
from ssl3d.run.planning.plan import Plan
from ssl3d.train.build import misfits


def volumes_of(plan: Plan, recipe: EncoderRecipe) -> int:
    """Return the number of training volumes of an encoder's corpus, including those that are tested on."""
    planes = ((plan.data_plane(part.data, part.plane), part) for part in recipe.corpus)
    return sum(training_volumes(one.dataset.cases(), part.folds, part.fold) for one, part in planes)


def planned_misfits(plan: Plan) -> list[str]:
    """Return one sentence per method and setting, from tables of cases alone: nothing is packed yet."""
    return _sentences((request.recipe, volumes_of(plan, request.recipe)) for request in plan.requests)


def packed_misfits(graph: Graph) -> list[str]:
    """Return the same sentences from the corpora themselves."""
    return _sentences((one.recipe, len(one.corpus)) for one in graph.encoders.values() if one.corpus is not None)


def _sentences(encoders: Iterable[tuple[EncoderRecipe, int]]) -> list[str]:
    found: dict[str, None] = {}  # once for all seeds and backbones
    for recipe, volumes in encoders:
        said = misfits(recipe, volumes) if volumes else []
        found |= dict.fromkeys(f"{short(recipe.method)}: {text}" for text in said)
    return list(found)

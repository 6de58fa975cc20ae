"""Merging the requests of repeated calls on one run. Loads no torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from ssl3d.experiment import ALL, NONE, Experiment
from ssl3d.results.model import PlannedEncoder, PlannedEvaluation, PlanRecord

Which = tuple[str, str, int, str, str, str]  # method, backbone, seed, data set, plane, task


def merge_plans(earlier: PlanRecord, now: PlanRecord) -> PlanRecord:
    """Return the plan of a run after another call.

    Repeated requests replace what was planned for them before, in its place: their keys differ if the data, a plugin or
    weights were changed. The primary comparison remains that of the first call.
    """
    asked = {_request(now, evaluation): key for key, evaluation in now.evaluations.items()}
    evaluations: dict[str, PlannedEvaluation] = {}
    for key, evaluation in earlier.evaluations.items():
        repeated = asked.get(_request(earlier, evaluation))
        evaluations |= {key: evaluation} if repeated is None else {repeated: now.evaluations[repeated]}
    evaluations |= now.evaluations
    known = {**earlier.encoders, **now.encoders}
    needed = {evaluation.encoder for evaluation in evaluations.values()}
    encoders = {key: encoder for key, encoder in known.items() if key in needed}
    chosen = {encoder.rate for encoder in encoders.values()}
    return earlier.model_copy(
        update={
            "primary": earlier.primary or now.primary,
            "lacking": _still_lacking(now.lacking, known),
            "roots": {**earlier.roots, **now.roots},
            "stores": {**earlier.stores, **now.stores},
            "encoders": encoders,
            "rates": {key: rate for key, rate in {**earlier.rates, **now.rates}.items() if key in chosen},
            "evaluations": evaluations,
        }
    )


def _still_lacking(
    lacking: Mapping[str, tuple[str, ...]], planned: Mapping[str, PlannedEncoder]
) -> dict[str, tuple[str, ...]]:
    """Return the controls that a call lacks, by the reason, without those of earlier calls."""
    there = {encoder.recipe.method for encoder in planned.values()}
    left = {reason: tuple(name for name in names if name not in there) for reason, names in lacking.items()}
    return {reason: names for reason, names in left.items() if names}


def merge_requests(earlier: Experiment, now: Experiment, record: PlanRecord) -> Experiment:
    """Return an experiment that covers two calls' requests, or more: for example, every method with every seed.

    Args:
        earlier: the earlier request; both share :meth:`Experiment.base`.
        now: the current request; its plugin settings override earlier ones.
        record: the merged plan, which knows the tasks and planes.
    """
    if earlier.base() != now.base():  # recipe.toml was edited
        return now
    values: dict[str, Any] = {}
    values |= {name: _union(getattr(earlier, name), getattr(now, name)) for name in ("methods", "backbones", "seeds")}
    for section in ("method", "backbone", "protocol"):
        values[section] = {**getattr(earlier, section), **getattr(now, section)}
    values["controls"] = _all_controls(earlier, now)
    recipes = [evaluation.recipe for evaluation in record.evaluations.values()]
    data: dict[str, Any] = {}
    if earlier.data.task != now.data.task:
        data["task"] = _union(recipe.task for recipe in recipes)
    if earlier.data.plane != now.data.plane:
        data["plane"] = _union(recipe.plane for recipe in recipes if recipe.plane) or None
    evaluate: dict[str, Any] = {}
    for name in ("protocols", "labels"):
        first, second = getattr(earlier.evaluate, name), getattr(now.evaluate, name)
        if first != second:
            evaluate[name] = _union(first, second)
    values["data"] = now.data.model_copy(update=data)
    values["evaluate"] = now.evaluate.model_copy(update=evaluate)
    return now.model_copy(update=values)


def beyond(experiment: Experiment, record: PlanRecord) -> list[Which]:
    """Return the requests of an experiment that a run has no evaluation of; for named methods, not controls."""
    there = dict.fromkeys(_which(record, evaluation) for evaluation in record.evaluations.values())
    places = dict.fromkeys(which[3:] for which in there)
    asked = itertools.product(experiment.methods, experiment.backbones, experiment.seeds, places)
    wanted = [(method, backbone, seed, *place) for method, backbone, seed, place in asked]
    return [which for which in dict.fromkeys(wanted) if which not in there]


def words(which: Which) -> str:
    """Return a missing evaluation in words: "byol on tiny, seed 1, acl of mrnet sagittal"."""
    method, backbone, seed, data, plane, task = which
    return f"{method} on {backbone}, seed {seed}, {task} of {' '.join(filter(None, (data, plane)))}"


def _request(record: PlanRecord, evaluation: PlannedEvaluation) -> tuple[str, str]:
    """Return what was requested, independently of the data and plugins at that time."""
    encoder = record.encoders[evaluation.encoder]
    return encoder.recipe.canonical(), evaluation.recipe.canonical()


def _which(record: PlanRecord, evaluation: PlannedEvaluation) -> Which:
    encoder, recipe = record.encoders[evaluation.encoder].recipe, evaluation.recipe
    return encoder.method, encoder.backbone, encoder.seed, recipe.data, recipe.plane or "", recipe.task


def _all_controls(*experiments: Experiment) -> tuple[str, ...]:
    names = _union(*(experiment.controls for experiment in experiments))
    return (ALL,) if ALL in names else tuple(name for name in names if name != NONE) or (NONE,)


def _union(*values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(itertools.chain(*values)))

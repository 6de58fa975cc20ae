"""A plan that makes one encoder, and one of its evaluations, as described in their records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ssl3d.experiment import Experiment
from ssl3d.recipe import EncoderRecipe, EvaluationRecipe, PretrainRecipe
from ssl3d.results.model import EncoderRecord, PlanRecord
from ssl3d.run.planning.datasets import DataPlane, open_dataset, root_of
from ssl3d.run.planning.plan import Plan, Request

Named = tuple[str, str | None, int | None]  # data set, plane, folds


def plan_of_record(
    encoder: EncoderRecord, evaluation: EvaluationRecipe | None, run: PlanRecord | None, roots: Mapping[str, Path]
) -> Plan:
    """Return the plan.

    Test cases of all data sets that the run evaluates on are left out of the corpus, as they were in the run.

    Args:
        encoder: record of the encoder.
        evaluation: recipe of one of its evaluations; None for the encoder alone.
        run: plan of the run that they belong to; None if unknown.
        roots: folders of the data sets' files.

    Raises:
        UserError: a data set is unknown or has no such plane.
    """
    recipe = settled(encoder)
    of_run = [] if run is None else [one.recipe for one in run.evaluations.values()]
    own = [one.recipe for one in run.evaluations.values() if one.encoder == encoder.key] if run else []
    named = dict.fromkeys(_named(one) for one in (*([evaluation] if evaluation else []), *of_run))
    parts = [(part.data, part.plane, part.folds) for part in recipe.corpus]
    evaluated = list(named) or list(dict.fromkeys(parts))
    planes = {(data, plane) for data, plane, _ in evaluated}
    further = [part for part in dict.fromkeys(parts) if part[:2] not in planes]
    first = evaluation or next(iter(own), None)
    fold = first.fold if first else next((part.fold for part in recipe.corpus if part.folds), 0)
    folds = first.folds if first else next((part.folds for part in recipe.corpus if part.folds), None)
    return Plan(
        _experiment(recipe, evaluation, [data for data, *_ in evaluated], folds),
        roots,
        tuple(_data_plane(one, roots, evaluation) for one in evaluated),
        tuple(_data_plane(one, roots, None) for one in further),
        (Request(recipe, fold if recipe.pretrain else 0, () if evaluation is None else (evaluation,)),),
    )


def settled(record: EncoderRecord) -> EncoderRecipe:
    """Return an encoder's recipe with its recorded decisions, on "auto" settings and its rate: no trial is repeated."""
    engine, asked = record.engine, record.recipe.pretrain
    if engine is None or asked is None:
        return record.recipe
    decided: dict[str, Any] = {} if record.rate is None else {"lr": record.rate.lr, "tune_lr": ()}
    decided |= {
        name: getattr(engine, name)
        for name in ("micro_batch", "precision", "channels_last", "compile")
        if getattr(asked, name) == "auto"
    }
    if "micro_batch" in decided:
        decided["keep"] = engine.keep
    pretrain = PretrainRecipe.checked({**asked.model_dump(), **decided}, "pretrain")
    return record.recipe.model_copy(update={"pretrain": pretrain})


def _named(recipe: EvaluationRecipe) -> Named:
    return recipe.data, recipe.plane, recipe.folds


def _data_plane(named: Named, roots: Mapping[str, Path], evaluation: EvaluationRecipe | None) -> DataPlane:
    data, plane, _ = named
    dataset = open_dataset(data, root_of(data, roots), plane)
    own = evaluation is not None and (evaluation.data, evaluation.plane) == (data, plane)
    tasks = tuple(task for task in dataset.tasks if evaluation is not None and own and task.name == evaluation.task)
    return DataPlane(data, dataset, tasks)


def _experiment(
    recipe: EncoderRecipe, evaluation: EvaluationRecipe | None, data: Iterable[str], folds: int | None
) -> Experiment:
    """Return the request as a user would write it."""
    values: dict[str, Any] = {
        "methods": (recipe.method,),
        "backbones": (recipe.backbone,),
        "seeds": (recipe.seed,),
        "controls": ("none",),
        "corpus": tuple(dict.fromkeys(part.data for part in recipe.corpus)) or None,
        "data": {"name": tuple(dict.fromkeys(data)), "folds": folds},
        "view_size": recipe.view_size,
        "method": {recipe.method: recipe.method_config},
        "backbone": {recipe.backbone: recipe.backbone_config},
    }
    values |= {name: getattr(recipe, name) for name in ("augment", "pretrain") if getattr(recipe, name) is not None}
    if evaluation is not None:
        values["evaluate"] = {"protocols": (evaluation.protocol,), "inner_folds": evaluation.inner_folds}
        values["protocol"] = {evaluation.protocol: evaluation.protocol_config}
    return Experiment.checked(values, "")

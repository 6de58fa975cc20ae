"""Rebuild the plan of a run from its plan.json, from which any number of workers start. Reads no volumes."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from ssl3d.experiment import Experiment
from ssl3d.recipe import EvaluationRecipe
from ssl3d.results.model import PlannedEncoder, PlanRecord
from ssl3d.run.planning.datasets import DataPlane, Roots, open_dataset, root_of
from ssl3d.run.planning.plan import Plan, Request

Which = tuple[str, str | None]  # data set and plane


def plan_of_run(record: PlanRecord) -> Plan:
    """Return the plan whose artifacts have the keys of plan.json, unless data, plugins or weights were changed since.

    Args:
        record: plan.json.

    Raises:
        UserError: a data set or plugin is unknown here.
    """
    roots = {name: Path(root) for name, root in record.roots.items()}
    evaluations: defaultdict[str, list[EvaluationRecipe]] = defaultdict(list)
    tasks: defaultdict[Which, dict[str, None]] = defaultdict(dict)
    for planned in record.evaluations.values():
        evaluations[planned.encoder].append(planned.recipe)
        tasks[planned.recipe.data, planned.recipe.plane][planned.recipe.task] = None
    corpora = dict.fromkeys(
        (part.data, part.plane) for encoder in record.encoders.values() for part in encoder.recipe.corpus
    )
    return Plan(
        _experiment(record),
        roots,
        tuple(_data_plane(which, roots, tuple(names)) for which, names in tasks.items()),
        tuple(_data_plane(which, roots) for which in corpora if which not in tasks),
        tuple(_request(record, encoder, evaluations[key]) for key, encoder in record.encoders.items()),
    )


def _experiment(record: PlanRecord) -> Experiment:
    """Return what the graph reads of the request; subsets of labels are planned one by one, and so are left out."""
    data = record.base.get("data", {})
    return Experiment.checked({"data": {"name": data.get("name", ("demo",)), "folds": data.get("folds")}}, "")


def _request(record: PlanRecord, encoder: PlannedEncoder, evaluations: list[EvaluationRecipe]) -> Request:
    rate = None if encoder.rate is None else record.rates[encoder.rate].recipe
    fold = evaluations[0].fold if encoder.recipe.pretrain and evaluations else 0
    return Request(encoder.recipe, fold, tuple(evaluations), rate)


def _data_plane(which: Which, roots: Roots, names: tuple[str, ...] = ()) -> DataPlane:
    data, plane = which
    dataset = open_dataset(data, root_of(data, roots), plane)
    return DataPlane(data, dataset, tuple(task for task in dataset.tasks if task.name in names))

"""From an experiment to the encoders and evaluations it requests, checked before any volume is read.

Their keys follow once the volumes are packed (:mod:`ssl3d.run.graph`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice
from typing import Any

from ssl3d.errors import PluginError
from ssl3d.experiment import Experiment
from ssl3d.protocol import EncoderProtocol, FeatureProtocol, Protocol
from ssl3d.recipe import CorpusPart, EncoderRecipe, EvaluationRecipe, RateRecipe
from ssl3d.registry import load
from ssl3d.run.options import Options
from ssl3d.run.planning.controls import check_controls, controls, missing_controls
from ssl3d.run.planning.datasets import DataPlane, Roots, check_roots, corpus_planes, evaluated_planes, synthetic
from ssl3d.run.planning.flips import flip_notes, with_flips
from ssl3d.run.planning.initial import check_init, initial_notes, overlap
from ssl3d.run.planning.plan_checks import (
    check_labelled,
    check_names,
    check_predicts,
    check_sections,
    check_seeds,
    known_readouts,
    without_effect,
)
from ssl3d.run.planning.rates import rate_recipe, untuned
from ssl3d.run.planning.settings import encoder_recipe
from ssl3d.tables.formats.lacking import lacking_controls
from ssl3d.task import Task
from ssl3d.train.build import method_class

UNTRAINED = 3  # times as many seeds of untrained controls as of methods


@dataclass(frozen=True)
class Request:
    """A requested encoder, and its evaluations.

    Attributes:
        recipe: recipe of the encoder.
        fold: fold of the evaluated data sets, whose test cases it must not have seen; 0 if it is not trained.
        evaluations: with all training labels; those with subsets of labels are derived from them later. A recipe that
            names a subset is used as it is.
        rate: how its learning rate is chosen; None if that is the recipe's.
    """

    recipe: EncoderRecipe
    fold: int
    evaluations: tuple[EvaluationRecipe, ...]
    rate: RateRecipe | None = None


@dataclass(frozen=True)
class Plan:
    """The artifacts that a run will make.

    Attributes:
        experiment: the request.
        roots: folders of the data sets' files.
        evaluated: data sets in each plane, with their tasks.
        corpora: further data sets, used only for pretraining.
        requests: encoders with their evaluations, in the order in which they are made.
        notes: sentences for the user.
        lacking: controls that the table will lack, by the reason.
    """

    experiment: Experiment
    roots: Roots
    evaluated: tuple[DataPlane, ...]
    corpora: tuple[DataPlane, ...]
    requests: tuple[Request, ...]
    notes: tuple[str, ...] = ()
    lacking: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def planes(self) -> tuple[DataPlane, ...]:
        """All data sets, in each plane."""
        return (*self.evaluated, *self.corpora)

    def data_plane(self, data: str, plane: str | None) -> DataPlane:
        """Return a data set in a plane."""
        return next(data_plane for data_plane in self.planes if (data_plane.data, data_plane.plane) == (data, plane))


def protocol_class(reference: str) -> type[Protocol[Any]]:
    """Return the protocol behind a name, ``module:Class`` or ``file.py:Class``.

    Raises:
        PluginError: there is none, or it is incomplete.
    """
    kind = load("protocols", reference)
    if not issubclass(kind, Protocol):
        raise PluginError(f"{reference!r} is not a protocol: its class is not a subclass of ssl3d's")
    if getattr(kind, "__abstractmethods__", ()):
        raise PluginError(f"protocol {reference!r} lacks predict(); `ssl3d check` it")
    return kind


def make_plan(experiment: Experiment, options: Options | None = None) -> Plan:
    """Expand an experiment into encoders and evaluations.

    Args:
        experiment: the request.
        options: their ``roots`` of the data sets' files are used.

    Raises:
        UserError: a name is unknown, a setting is out of bounds, or settings are inconsistent.
    """
    roots = (options or Options()).roots
    check_roots(roots, (*experiment.data.name, *(experiment.corpus or ())))
    check_sections(experiment)
    check_seeds(experiment)
    check_controls(experiment)
    check_init(experiment)
    evaluated = evaluated_planes(experiment.data, roots)
    corpora: dict[tuple[str, str | None], DataPlane] = {}
    found: dict[tuple[str, int], Request] = {}
    pretrained_on = [corpus_planes(experiment, data_plane, roots) for data_plane in evaluated]
    for data_plane, parts in zip(evaluated, pretrained_on, strict=True):
        corpora |= {(part.data, part.plane): part for part in parts}
        for request in _requests(experiment, data_plane, parts):
            key = request.recipe.canonical(), request.fold
            earlier = found.get(key)
            more = request.evaluations if earlier is None else (*earlier.evaluations, *request.evaluations)
            found[key] = replace(request, evaluations=more)
    requests = tuple(
        replace(request, rate=rate_recipe(experiment, request.recipe, request.evaluations))
        for request in found.values()
    )
    own = {(data_plane.data, data_plane.plane) for data_plane in evaluated}
    further = tuple(data_plane for which, data_plane in corpora.items() if which not in own)
    check_names((*evaluated, *further))
    lacking = missing_controls(experiment, pretrained_on)
    notes = (
        *synthetic((*evaluated, *further)),
        *filter(None, [lacking_controls(lacking)]),
        *flip_notes(experiment, (*evaluated, *further)),
        *initial_notes([request.recipe for request in requests], _overlaps(requests, evaluated)),
        *_without_curves(experiment, requests),
        *untuned(experiment, [request.recipe for request in requests]),
        *without_effect(experiment, [request.recipe for request in requests]),
    )
    return Plan(experiment, roots, tuple(evaluated), further, requests, notes, lacking)


def _requests(experiment: Experiment, data_plane: DataPlane, parts: list[DataPlane]) -> Iterator[Request]:
    """Yield the encoders for one evaluated data set, for each fold, backbone, method and seed."""
    folds, names = experiment.data.folds, set(experiment.data.name)
    for fold in range(folds or 1):
        corpus = [_part(part, folds if part.data in names else None, fold) for part in parts]
        for backbone in dict.fromkeys(experiment.backbones):
            for method in dict.fromkeys([*experiment.methods, *controls(experiment, backbone, parts)]):
                kind = method_class(method)
                if kind.own_backbone is not None and backbone != experiment.backbones[0]:
                    continue  # already there
                sees_labels = kind.trains and "labels" in kind.needs
                for seed in _seeds(experiment, method):
                    for tasks in [(task,) for task in data_plane.tasks] if sees_labels else [data_plane.tasks]:
                        label = tasks[0].name if sees_labels else None
                        if label is not None:
                            check_labelled(method, label, parts)
                        recipe = encoder_recipe(
                            experiment,
                            corpus,
                            parts,
                            method=method,
                            backbone=kind.own_backbone or backbone,
                            seed=seed,
                            task=label,
                        )
                        evaluations = tuple(_evaluations(experiment, data_plane, tasks, fold, recipe))
                        if evaluations:
                            yield Request(recipe, fold if kind.trains else 0, evaluations)


def _seeds(experiment: Experiment, method: str) -> tuple[int, ...]:
    """Return the seeds of a method: those requested, and more of an untrained control, which cost no training.

    With two or three seeds, the spread of untrained encoders limits what can be separated from them.
    """
    asked, kind = tuple(dict.fromkeys(experiment.seeds)), method_class(method)
    fixed = kind.trains or kind.family or kind.initial_weights is not None or kind.own_backbone is not None
    if fixed or len(asked) == 1 or method in experiment.methods:
        return asked
    further = (seed for seed in count() if seed not in asked)
    return (*asked, *islice(further, (UNTRAINED - 1) * len(asked)))


def _overlaps(requests: Sequence[Request], evaluated: Sequence[DataPlane]) -> Iterator[str]:
    """Yield a sentence, or "", for each encoder and data set that it is evaluated on."""
    datasets = {(one.data, one.plane): one.dataset for one in evaluated}
    for request in requests:
        for recipe in request.evaluations:
            yield overlap(request.recipe.init, recipe.data, datasets[recipe.data, recipe.plane])


def _without_curves(experiment: Experiment, requests: Sequence[Request]) -> Iterator[str]:
    """Yield a sentence on encoders that label shares are not evaluated of, if there are any shares."""
    seen = dict.fromkeys(request.recipe.method for request in requests if request.recipe.task is not None)
    if seen and (set(experiment.evaluate.labels) - {1.0} or experiment.evaluate.imbalance):
        yield f"{', '.join(seen)} saw every training label, and so is left out of the curves over label shares"


def _part(data_plane: DataPlane, folds: int | None, fold: int) -> CorpusPart:
    return CorpusPart(data=data_plane.data, plane=data_plane.plane, folds=folds, fold=fold if folds else 0)


def _evaluations(
    experiment: Experiment, data_plane: DataPlane, tasks: tuple[Task, ...], fold: int, encoder: EncoderRecipe
) -> Iterator[EvaluationRecipe]:
    """Yield the evaluations of an encoder on one data set, with all training labels."""
    choice = experiment.evaluate
    readouts = known_readouts(experiment, encoder.backbone)
    for protocol in dict.fromkeys(choice.protocols):
        kind = protocol_class(protocol)
        settings = experiment.asked().get("protocol", {}).get(protocol, {})
        config = kind.Config.checked(settings, f"protocol.{protocol}").model_dump(mode="json")
        augment = None
        if issubclass(kind, EncoderProtocol):
            if encoder.seed not in experiment.seeds:
                continue  # such a protocol trains the encoder; see _seeds
            chosen = "flip" in experiment.augment.model_fields_set
            augment = with_flips(experiment.augment, [data_plane], chosen=chosen)
        for task in tasks:
            check_predicts(protocol, kind, task, data_plane.data)
            yield EvaluationRecipe(
                data=data_plane.data,
                plane=data_plane.plane,
                task=task.name,
                folds=experiment.data.folds,
                fold=fold,
                protocol=protocol,
                protocol_config=config,
                readouts=readouts if issubclass(kind, FeatureProtocol) else ("last",),
                view_size=encoder.view_size,
                batch_size=choice.batch_size,
                inner_folds=choice.inner_folds,
                seed=encoder.seed,
                augment=augment,
            )

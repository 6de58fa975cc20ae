"""An experiment into cells: every method x backbone x seed x task x plane x fold, checked before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl3d.backbone import Backbone
from ssl3d.config import Config
from ssl3d.dataset import Dataset
from ssl3d.errors import PluginError, RecipeError, nearest
from ssl3d.experiment import ALL, DataChoice, Experiment
from ssl3d.method import Method
from ssl3d.recipe import Recipe
from ssl3d.registry import load, plugins, split_variant
from ssl3d.results.sources import sources
from ssl3d.train.build import backbone_class, method_class


@dataclass(frozen=True)
class Cell:
    """One method x backbone x seed x task x plane x fold: the unit that runs, resumes, fails, and is reported."""

    recipe: Recipe

    @property
    def name(self) -> str:
        """Name of its folder: METHOD-BACKBONE-sSEED-HASH; the hash tells tasks, planes and folds apart."""
        method, backbone = (_safe(reference) for reference in (self.recipe.method, self.recipe.backbone))
        return f"{method}-{backbone}-s{self.recipe.seed}-{self.recipe.hash()}"


@dataclass(frozen=True)
class Plan:
    """A data set, plane by plane, and the cells that are to run on it."""

    experiment: Experiment
    datasets: Mapping[str, Dataset]  # by plane; "" where there is no choice
    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()

    @property
    def dataset(self) -> Dataset:
        """The first plane."""
        return next(iter(self.datasets.values()))

    def dataset_of(self, cell: Cell) -> Dataset:
        """The plane of a cell."""
        return self.datasets[cell.recipe.data.plane or ""]


def open_dataset(name: str, root: Path | None = None, plane: str | None = None) -> Dataset:
    """Build a data set from its name, with variant, and a root folder.

    Raises:
        PluginError: there is no such data set.
        RecipeError: it has no such plane.
    """
    kind = load("datasets", name)
    if not issubclass(kind, Dataset):
        raise PluginError(f"{name!r} is not a data set: its class is no subclass of ssl3d's")
    if plane is not None and plane not in kind.planes:
        hint = nearest(plane, kind.planes) if any(kind.planes) else "; it has no planes: leave --plane out"
        raise RecipeError(f"data set {name!r} has no plane {plane!r}{hint}")
    return kind(root, plane or "", split_variant("datasets", name)[1])


def make_plan(experiment: Experiment, root: Path | None = None, weights: Path | None = None) -> Plan:
    """Spread an experiment out into cells.

    Args:
        experiment: what was asked for.
        root: folder of the data set's files.
        weights: local file of pretrained weights, in place of a download.

    Raises:
        UserError: a name is unknown, a setting is out of bounds, or does not fit the data set or the backbone.
    """
    datasets = _planes(experiment.data, root)
    tasks = _tasks(experiment.data, next(iter(datasets.values())))
    _check_sections(experiment)
    cells = [
        _cell(experiment, dataset, _data(experiment, task, dataset, fold), weights, **which)
        for dataset in datasets.values()
        for fold in range(experiment.data.folds or 1)
        for which in _spread(experiment)
        for task in tasks  # innermost: what tells tasks of one encoder apart is how it is judged
    ]
    notes = [note for backbone in experiment.backbones for note in _left_out(experiment, backbone)]
    notes += _without_effect(experiment, cells)
    return Plan(experiment, datasets, tuple({cell.name: cell for cell in cells}.values()), tuple(notes))


def _planes(choice: DataChoice, root: Path | None) -> dict[str, Dataset]:
    """The planes that were asked for, by name, as data sets."""
    asked: tuple[str | None, ...] = choice.plane or (None,)
    known = getattr(load("datasets", choice.name), "planes", ("",))
    if asked == (ALL,) and any(known):
        asked = known
    found = [open_dataset(choice.name, root, plane) for plane in asked]
    return {dataset.plane: dataset for dataset in found}


def _tasks(choice: DataChoice, dataset: Dataset) -> tuple[str, ...]:
    """The tasks that were asked for, each once."""
    asked = choice.task or dataset.tasks[:1]
    if asked == (ALL,):
        return dataset.tasks
    for task in asked:
        if task not in dataset.tasks:
            raise RecipeError(f"data set {choice.name!r} has no task {task!r}{nearest(task, dataset.tasks)}")
    return tuple(dict.fromkeys(asked))


def _data(experiment: Experiment, task: str, dataset: Dataset, fold: int) -> dict[str, Any]:
    """The data recipe of a cell, in plain values."""
    choice = experiment.data
    return {"name": choice.name, "task": task, "plane": dataset.plane or None, "folds": choice.folds, "fold": fold}


def _spread(experiment: Experiment) -> Iterator[dict[str, Any]]:
    for backbone in experiment.backbones:
        for method in [*experiment.methods, *_baselines(experiment, backbone)]:
            for seed in experiment.seeds:
                yield {"method": method, "backbone": backbone, "seed": seed}


def _baselines(experiment: Experiment, backbone: str) -> Iterator[str]:
    """Names of the registered baselines that this backbone can stand for and that were not asked for anyway."""
    for name, kind in _registered_baselines(experiment):
        if kind.initial_weights is None or kind.initial_weights in backbone_class(backbone).weights:
            yield name


def _left_out(experiment: Experiment, backbone: str) -> Iterator[str]:
    """One sentence if no baseline with pretrained weights can stand beside this backbone."""
    pretrained = [name for name, kind in _registered_baselines(experiment) if kind.initial_weights is not None]
    if pretrained and not set(pretrained) & set(_baselines(experiment, backbone)):
        yield f"backbone {backbone!r} has no pretrained weights: the table is without {' and '.join(pretrained)}"


def _registered_baselines(experiment: Experiment) -> list[tuple[str, type[Method]]]:
    """Baselines by name, those asked for as methods aside."""
    found = []
    for name in plugins("methods") if experiment.baselines else ():
        try:
            kind = method_class(name)
        except PluginError:
            continue  # a broken plugin is reported by `ssl3d list`, and by whoever asks for it by name
        if kind.baseline and name not in experiment.methods:
            found.append((name, kind))
    return found


def _check_sections(experiment: Experiment) -> None:
    """Settings for a method or backbone that is not run are a mistake, most likely a typo."""
    for section, names in (("method", experiment.methods), ("backbone", experiment.backbones)):
        for name in getattr(experiment, section):
            registered = plugins("methods" if section == "method" else "backbones")
            if name not in names and name not in registered:
                raise RecipeError(f"settings for unknown {section} {name!r}{nearest(name, [*names, *registered])}")


def _without_effect(experiment: Experiment, cells: Sequence[Cell]) -> Iterator[str]:
    """One sentence for each method or backbone that has settings and no cell."""
    for section in ("method", "backbone"):
        run = {getattr(cell.recipe, section) for cell in cells}
        for name in getattr(experiment, section):
            if name not in run:
                yield f"settings of {section} {name!r} have no effect: it is not part of this run"


def _cell(
    experiment: Experiment,
    dataset: Dataset,
    data: Mapping[str, Any],
    weights: Path | None,
    *,
    method: str,
    backbone: str,
    seed: int,
) -> Cell:
    kind, network = method_class(method), backbone_class(backbone)
    asked = experiment.asked()
    method_config = {**asked.get("method", {}).get(method, {})}
    backbone_config = {**asked.get("backbone", {}).get(backbone, {})}
    values = merge(
        kind.preset,
        {
            **{section: asked[section] for section in ("augment", "pretrain", "evaluate") if section in asked},
            "backbone_config": backbone_config,
        },
    )
    values |= {"method": method, "backbone": backbone, "seed": seed, "data": data}
    values["view_size"] = _view_size(experiment, dataset, kind, network, values.get("view_size"))
    values["sources"] = sources((method, backbone), weights if kind.initial_weights is not None else None)
    values["method_config"] = _whole(kind.Config, method_config, f"method.{method}")
    values["backbone_config"] = _whole(network.Config, values["backbone_config"], f"backbone.{backbone}")
    recipe = Recipe.checked(values)
    _check_fit(recipe, kind, network)
    return Cell(_without_left_right_flips(recipe, dataset))


def _whole(config: type[Config], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Checked settings with all defaults written out: a default that changes in the code is another recipe."""
    return config.checked(values, where).model_dump(mode="json")


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values in which ``over`` wins, section by section."""
    merged = dict(under)
    for name, value in over.items():
        below = merged.get(name)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[name] = merge(below, value) if both else value  # type: ignore[arg-type]  # both are mappings here
    return merged


def _view_size(
    experiment: Experiment, dataset: Dataset, kind: type[Method], network: type[Backbone], preset: Any
) -> tuple[int, int, int]:
    """The size asked for; else the method's; else what its pretrained weights were trained on; else the data set's."""
    if experiment.view_size is not None:
        return experiment.view_size
    if preset is not None:
        size: tuple[int, int, int] = tuple(preset)
        return size
    if kind.initial_weights is not None and kind.initial_weights in network.weights:
        slices, rows, columns = network.weights[kind.initial_weights].size
        return (slices if slices > 1 else dataset.view_size[0], rows, columns)  # one slice: an encoder of slices
    return dataset.view_size


def _check_fit(recipe: Recipe, kind: type[Method], network: type[Backbone]) -> None:
    if any(have < need for have, need in zip(recipe.view_size, network.min_size, strict=True)):
        raise RecipeError(
            f"view_size = {recipe.view_size} is smaller than backbone {recipe.backbone!r} takes, {network.min_size} "
            "(slices, rows, columns); set a larger one"
        )
    if kind.initial_weights is not None and kind.initial_weights not in network.weights:
        known = ", ".join(network.weights) or "none"
        raise RecipeError(
            f"method {recipe.method!r} starts from {kind.initial_weights} weights, and backbone {recipe.backbone!r} "
            f"has none of that name (it has: {known}); choose another backbone, or leave {recipe.method!r} out"
        )


def _without_left_right_flips(recipe: Recipe, dataset: Dataset) -> Recipe:
    if dataset.left_right is None or recipe.augment.flip_left_right:
        return recipe
    flip = tuple(0.0 if axis == dataset.left_right else chance for axis, chance in enumerate(recipe.augment.flip))
    return recipe.model_copy(update={"augment": recipe.augment.model_copy(update={"flip": flip})})


def _safe(reference: str) -> str:
    """A reference as a part of a folder's name: ``path/to/file.py:Class`` becomes ``Class``."""
    name = reference.rpartition(":")[2] if ".py:" in reference else reference
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name)

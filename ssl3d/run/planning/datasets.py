"""The data sets of a run, in each plane: found by name, with their roots and tasks. Reads no volumes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl3d.dataset import Dataset
from ssl3d.errors import PluginError, RecipeError, nearest
from ssl3d.experiment import ALL, DataChoice, Experiment
from ssl3d.registry import load, split_variant
from ssl3d.run.options import ONLY
from ssl3d.task import Task

Roots = Mapping[str, Path]


@dataclass(frozen=True)
class DataPlane:
    """A data set in one plane.

    Attributes:
        data: name of the data set, with its variant.
        dataset: the data set opened in this plane.
        tasks: tasks that encoders are evaluated on; empty if it is only used for pretraining.
    """

    data: str
    dataset: Dataset
    tasks: tuple[Task, ...] = ()

    @property
    def plane(self) -> str | None:
        """Plane of the exam; None if the data set has no planes."""
        return self.dataset.plane or None


def dataset_class(name: str) -> type[Dataset]:
    """Return the data set behind a name, ``name:variant``, ``module:Class`` or ``file.py:Class``.

    Raises:
        PluginError: there is no such data set.
    """
    kind = load("datasets", name)
    if not issubclass(kind, Dataset):
        raise PluginError(f"{name!r} is not a data set: its class is not a subclass of ssl3d's")
    return kind


def open_dataset(name: str, root: Path | None = None, plane: str | None = None) -> Dataset:
    """Build a data set from its name, with variant, and a root folder.

    Raises:
        PluginError: there is no such data set.
        RecipeError: it has no such plane.
    """
    kind = dataset_class(name)
    if plane is not None and plane not in kind.planes:
        hint = nearest(plane, kind.planes) if any(kind.planes) else "; it has no planes: leave --plane out"
        raise RecipeError(f"data set {name!r} has no plane {plane!r}{hint}")
    return kind(root, plane or "", split_variant("datasets", name)[1])


def evaluated_planes(choice: DataChoice, roots: Roots) -> list[DataPlane]:
    """Return the data sets to evaluate on, in each plane, with their tasks.

    Raises:
        PluginError: a data set is unknown.
        RecipeError: no data set has a task or plane of this name, or a data set has none of those requested.
    """
    names = tuple(dict.fromkeys(choice.name))
    opened = [open_dataset(name, root_of(name, roots), plane) for name in names for plane in _planes_of(choice, name)]
    of = [name for name in names for _ in _planes_of(choice, name)]
    _check_known(choice, names, opened)
    return [DataPlane(name, dataset, _tasks(choice, name, dataset)) for name, dataset in zip(of, opened, strict=True)]


def corpus_planes(experiment: Experiment, evaluated: DataPlane, roots: Roots) -> list[DataPlane]:
    """Return the data sets to pretrain on for an evaluated one: itself, or those of the corpus in the same plane.

    A corpus data set without this plane contributes its first plane.
    """
    if experiment.corpus is None:
        return [evaluated]
    found = []
    for name in dict.fromkeys(experiment.corpus):
        plane = evaluated.plane if evaluated.plane in dataset_class(name).planes else None
        found.append(DataPlane(name, open_dataset(name, root_of(name, roots), plane)))
    return found


def synthetic(planes: Iterable[DataPlane]) -> Iterator[str]:
    """Yield one sentence for each data set of generated volumes."""
    for one in planes:
        if one.dataset.synthetic:
            yield f"{one.dataset.name}: generated, synthetic volumes; scores say nothing about real data"


def check_roots(roots: Roots, names: Iterable[str]) -> None:
    """Check that the data sets are known, and that every root belongs to one of them.

    Raises:
        PluginError: a data set is unknown.
        RecipeError: a root belongs to none of them, or one root is given for several data sets.
    """
    families = {}
    for name in names:
        dataset_class(name)  # raises if there is none
        families[name] = split_variant("datasets", name)[0]
    for name in roots:
        if name not in {ONLY, *families, *families.values()}:
            raise RecipeError(
                f"--root {name}={roots[name]}: no data set of this run has this name{nearest(name, families)}"
            )
    if ONLY in roots and len(set(families.values())) > 1:
        raise RecipeError(
            f"--root {roots[ONLY]} does not say which data set it is of ({', '.join(families)}); write --root NAME=PATH"
        )


def root_of(name: str, roots: Roots) -> Path | None:
    """Return the root of a data set: its own, its family's, or the only one."""
    for key in (name, split_variant("datasets", name)[0], ONLY):
        if key in roots:
            return roots[key]
    return None


def _planes_of(choice: DataChoice, name: str) -> tuple[str | None, ...]:
    """Return the requested planes of a data set; None is its first."""
    known, several = dataset_class(name).planes, len(set(choice.name)) > 1
    if choice.plane is None:
        return (None,)
    if choice.plane == (ALL,) and (any(known) or several):
        return known if any(known) else (None,)
    asked = tuple(dict.fromkeys(choice.plane))
    if not several:
        return asked  # an unknown one is refused when the data set is opened
    if not any(known):
        return (None,)
    found = tuple(plane for plane in asked if plane in known)
    if not found:
        raise RecipeError(f"data set {name!r} has none of the planes {', '.join(asked)}; it has {', '.join(known)}")
    return found


def _tasks(choice: DataChoice, name: str, dataset: Dataset) -> tuple[Task, ...]:
    """Return the requested tasks of a data set."""
    if not dataset.tasks:
        raise RecipeError(f"data set {name!r} has no labels to evaluate with; add some, or name it in --corpus")
    if choice.task is None:
        return dataset.tasks[:1]
    if choice.task == (ALL,):
        return dataset.tasks
    known = {task.name: task for task in dataset.tasks}
    found = tuple(known[asked] for asked in dict.fromkeys(choice.task) if asked in known)
    if not found:
        raise RecipeError(
            f"data set {name!r} has none of the tasks {', '.join(choice.task)}; it has {', '.join(known)}"
        )
    return found


def _check_known(choice: DataChoice, names: Sequence[str], opened: Sequence[Dataset]) -> None:
    """Check that each requested task and plane exists in some data set."""
    which = f"data set {names[0]!r} has" if len(names) == 1 else f"none of the data sets {', '.join(names)} has"
    article = "no" if len(names) == 1 else "a"
    tasks = [task.name for dataset in opened for task in dataset.tasks]
    planes = [plane for name in names for plane in dataset_class(name).planes if plane]
    for what, asked, known in (("task", choice.task, tasks), ("plane", choice.plane, planes)):
        for name in asked or ():
            if name not in known and asked != (ALL,):
                raise RecipeError(f"{which} {article} {what} {name!r}{nearest(name, known)}")

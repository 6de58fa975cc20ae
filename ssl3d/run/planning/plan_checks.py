"""Checks that the parts of an experiment fit together; each fault is reported in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ssl3d.errors import RecipeError, nearest
from ssl3d.experiment import PLUGINS, Experiment
from ssl3d.protocol import Protocol
from ssl3d.recipe import TRIAL_SEED, EncoderRecipe
from ssl3d.registry import plugins
from ssl3d.run.planning.datasets import DataPlane
from ssl3d.task import Task
from ssl3d.train.build import backbone_class


def check_predicts(protocol: str, kind: type[Protocol[Any]], task: Task, data: str) -> None:
    """Refuse a task of a kind that a protocol cannot predict."""
    if task.kind not in kind.kinds:
        raise RecipeError(
            f"protocol {protocol!r} does not predict {task.kind} tasks, and {task.name!r} of {data!r} is one (it "
            f"predicts {', '.join(sorted(kind.kinds))}); choose other --protocols or another --task"
        )


def known_readouts(experiment: Experiment, backbone: str) -> tuple[str, ...]:
    """Return the requested read-outs that a backbone has.

    A control with a backbone of its own may have none of them, and is then evaluated with its first one.

    Raises:
        RecipeError: no backbone of the run has a read-out of a name, or one that the user chose has none of them.
    """
    readouts, known = experiment.evaluate.readouts, backbone_class(backbone).readout_names
    every = {name for other in (*experiment.backbones, backbone) for name in backbone_class(other).readout_names}
    for name in readouts:
        if name not in every:
            raise RecipeError(
                f"no backbone of this run has a read-out {name!r}{nearest(name, every)}; correct --readout"
            )
    found = tuple(name for name in dict.fromkeys(readouts) if name in known)
    if not found and backbone in experiment.backbones:
        raise RecipeError(
            f"backbone {backbone!r} has none of the read-outs {', '.join(readouts)}, only {', '.join(known)}; add one "
            "of these to --readout"
        )
    return found or known[:1]


def check_sections(experiment: Experiment) -> None:
    """Refuse settings of a plugin that does not exist, most likely a typo."""
    asked = {
        "method": experiment.methods,
        "backbone": experiment.backbones,
        "protocol": experiment.evaluate.protocols,
    }
    for section in PLUGINS:
        registered = plugins(f"{section}s")
        for name in getattr(experiment, section):
            if name not in asked[section] and name not in registered:
                raise RecipeError(
                    f"settings for unknown {section} {name!r}{nearest(name, [*asked[section], *registered])}"
                )


def check_seeds(experiment: Experiment) -> None:
    """Refuse the seed of trials of learning rates, which no row of a table may have."""
    if TRIAL_SEED in experiment.seeds:
        raise RecipeError(f"seed {TRIAL_SEED} is kept for trials of learning rates; choose another one")


def is_labelled(parts: Sequence[DataPlane]) -> bool:
    """Return whether a corpus has labels of any task."""
    return any(part.dataset.tasks for part in parts)


def check_labelled(method: str, task: str, parts: Sequence[DataPlane]) -> None:
    """Refuse a method that needs labels when no volume of the corpus has any."""
    known = {other.name for part in parts for other in part.dataset.tasks}
    if task not in known:
        names = ", ".join(part.data for part in parts)
        raise RecipeError(
            f"method {method!r} needs labels of {task!r}, and the corpus ({names}) has none; choose another --corpus, "
            f"or leave {method!r} out{nearest(task, known)}"
        )


def check_names(planes: Sequence[DataPlane]) -> None:
    """Refuse two data sets with the same name, which the tables could not distinguish."""
    names: dict[str, str] = {}
    for data_plane in planes:
        name = data_plane.dataset.name
        other = names.setdefault(name, data_plane.data)
        if other != data_plane.data:
            raise RecipeError(f"data sets {other!r} and {data_plane.data!r} are both called {name!r}; leave out one")


def without_effect(experiment: Experiment, recipes: Iterable[EncoderRecipe]) -> Iterator[str]:
    """Yield one sentence for each plugin that has settings but is not part of the run."""
    run: dict[str, set[str]] = {"method": set(), "backbone": set(), "protocol": set(experiment.evaluate.protocols)}
    for recipe in recipes:
        run["method"].add(recipe.method)
        run["backbone"].add(recipe.backbone)
    for section in PLUGINS:
        for name in getattr(experiment, section):
            if name not in run[section]:
                yield f"settings of {section} {name!r} have no effect: it is not part of this run"

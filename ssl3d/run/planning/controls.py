"""The controls that stand in every table beside the requested methods, and why some are missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ssl3d.errors import PluginError, RecipeError, nearest
from ssl3d.experiment import ALL, NONE, Experiment
from ssl3d.method import AnyMethod
from ssl3d.registry import plugins, split_variant
from ssl3d.run.planning.datasets import DataPlane
from ssl3d.run.planning.plan_checks import is_labelled
from ssl3d.train.build import backbone_class, method_class


def controls(experiment: Experiment, backbone: str, planes: Sequence[DataPlane]) -> Iterator[str]:
    """Yield the names of the controls that are possible with a backbone and a corpus.

    A control with its own backbone appears once, beside the user's first backbone.

    Args:
        experiment: the request.
        backbone: name of the backbone.
        planes: data sets of the corpus.
    """
    rows = {split_variant("methods", method)[1] for method in experiment.methods}  # of weights as published
    for name, kind in _asked(experiment):
        if kind.own_backbone is not None and backbone != experiment.backbones[0]:
            continue
        if kind.initial_weights is not None and kind.initial_weights in rows:
            continue
        if not _obstacle(kind, backbone, planes):
            yield name


def missing_controls(experiment: Experiment, corpora: Sequence[Sequence[DataPlane]]) -> dict[str, tuple[str, ...]]:
    """Return the controls that a run will not have, by the reason.

    Args:
        experiment: the request.
        corpora: data sets of each corpus.
    """
    found: dict[str, dict[str, None]] = {}  # names by reason
    asked = dict(_asked(experiment))
    for name, kind in _registered():
        if name not in asked and name not in experiment.methods:
            found.setdefault("left out by --controls", {})[name] = None
        for backbone in dict.fromkeys(experiment.backbones) if name in asked else ():
            for planes in corpora:
                if reason := _obstacle(kind, backbone, planes):
                    found.setdefault(reason, {})[name] = None
    return {reason: tuple(names) for reason, names in found.items()}


def check_controls(experiment: Experiment) -> None:
    """Check the names of the controls.

    Raises:
        RecipeError: one is unknown, or is no control.
    """
    known = [name for name, _ in _registered()]
    for name in experiment.controls:
        if name not in (*known, ALL, NONE):
            raise RecipeError(f"no control is called {name!r}{nearest(name, known)}; choose among {', '.join(known)}")
    if len(experiment.controls) > 1 and {ALL, NONE} & set(experiment.controls):
        raise RecipeError("--controls takes names of controls, or all alone, or none alone; these are mixed")


def _asked(experiment: Experiment) -> Iterator[tuple[str, type[AnyMethod]]]:
    """Yield the requested controls by name, except those requested as methods."""
    for name, kind in _registered():
        if name not in experiment.methods and (name in experiment.controls or ALL in experiment.controls):
            yield name, kind


def _registered() -> Iterator[tuple[str, type[AnyMethod]]]:
    for name in plugins("methods"):
        try:
            kind = method_class(name)
        except PluginError:
            continue  # a broken plugin is reported by `ssl3d list`, and when requested by name
        if kind.control:
            yield name, kind


def _obstacle(kind: type[AnyMethod], backbone: str, planes: Sequence[DataPlane]) -> str:
    """Return why a control is not possible; empty if it is."""
    network = backbone_class(backbone)
    if kind.initial_weights is not None and kind.initial_weights not in network.weights:
        return f"there are no such weights of {backbone}"
    if kind.needs_tokens and not network.tokens:
        return f"{backbone} has no tokens"
    if kind.trains and "labels" in kind.needs and not is_labelled(planes):
        return "the corpus has no labels"
    return ""

"""The baselines added to every table next to the requested methods."""

from __future__ import annotations

from collections.abc import Iterator

from ssl3d.errors import PluginError
from ssl3d.experiment import Experiment
from ssl3d.method import AnyMethod
from ssl3d.registry import plugins
from ssl3d.train.build import backbone_class, method_class


def baselines(experiment: Experiment, backbone: str) -> Iterator[str]:
    """Yield the registered baselines that work with this backbone.

    A baseline with its own backbone appears once, beside the user's first backbone.
    """
    network = backbone_class(backbone)
    for name, kind in _registered_baselines(experiment):
        if kind.own_backbone is not None and backbone != experiment.backbones[0]:
            continue
        has_weights = kind.initial_weights is None or kind.initial_weights in network.weights
        if has_weights and (network.tokens or not kind.needs_tokens):
            yield name


def _registered_baselines(experiment: Experiment) -> list[tuple[str, type[AnyMethod]]]:
    """Return baselines by name, except those requested as methods."""
    found = []
    for name in plugins("methods") if experiment.baselines else ():
        try:
            kind = method_class(name)
        except PluginError:
            continue  # a broken plugin is reported by `ssl3d list`, and when requested by name
        if kind.baseline and name not in experiment.methods:
            found.append((name, kind))
    return found


def absent_baselines(experiment: Experiment) -> Iterator[str]:
    """Yield one sentence for each backbone that no baseline with pretrained weights works with."""
    pretrained = [name for name, kind in _registered_baselines(experiment) if kind.initial_weights is not None]
    for backbone in dict.fromkeys(experiment.backbones):
        if pretrained and not set(pretrained) & set(baselines(experiment, backbone)):
            yield f"backbone {backbone!r} has no pretrained weights: the table is without {' and '.join(pretrained)}"

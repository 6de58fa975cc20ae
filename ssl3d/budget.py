"""The length of a training, and settings that follow it: their ``auto`` values, and numbers that do not fit it.

The papers' momentum and queues belong to a million images and hundreds of thousands of steps. A setting with a rule is
``auto`` by default: the paper's value where the training is long enough, otherwise the nearest one that fits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from ssl3d.config import Config


@dataclass(frozen=True)
class Budget:
    """The length of a training, known before it starts. By default that of MoCo's paper: 200 epochs of ImageNet.

    Attributes:
        steps: optimiser steps.
        volumes: volumes of the corpus.
        batch_size: volumes behind one optimiser step; never more than the corpus has.
    """

    steps: int = 1_000_800
    volumes: int = 1_281_167
    batch_size: int = 256


@dataclass(frozen=True)
class Rule(ABC):
    """How a setting follows the length of the training; stands in the annotation of the setting's field.

    >>> momentum: Annotated[MomentumSetting, AutoMomentum(0.996)] = Field("auto", description=...)

    Attributes:
        paper: the paper's value.
    """

    paper: float

    @abstractmethod
    def auto(self, budget: Budget) -> float:
        """Return the value of ``auto``: the paper's, or the nearest that fits the budget."""

    @abstractmethod
    def misfit(self, value: float, budget: Budget) -> str:
        """Return what a value leads to in a training that it does not fit, in a few words; "" if it fits."""


def rules(config: type[Config]) -> dict[str, Rule]:
    """Return the rules of a configuration by the names of their settings."""
    fields = config.model_fields.items()
    return {name: rule for name, field in fields for rule in field.metadata if isinstance(rule, Rule)}


def resolved(config: Config, budget: Budget) -> dict[str, float]:
    """Return the settings that have a rule by name, each as a number."""
    found = {}
    for name, rule in rules(type(config)).items():
        value = getattr(config, name)
        found[name] = rule.auto(budget) if value == "auto" else value
    return found


def remarks(config: Config, budget: Budget) -> Iterator[str]:
    """Yield one sentence for each ``auto`` setting that differs from the paper's, and each number that does not fit."""
    numbers = resolved(config, budget)
    for name, rule in rules(type(config)).items():
        value = numbers[name]
        if getattr(config, name) == "auto":
            if value != rule.paper:
                yield f"{name} = {value:g} (auto; {rule.paper:g} in the paper)"
        elif misfit := rule.misfit(value, budget):
            yield f"{name} = {value:g} {misfit}; 'auto' would be {rule.auto(budget):g}"

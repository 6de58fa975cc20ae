"""The protocol contract, whole: how an encoder is evaluated on one task. Loads neither torch nor scikit-learn.

What a protocol chooses (strength, neighbours, epochs, threshold), it chooses inside the training cases, with the
patients kept together; the test cases are predicted once, and scored elsewhere. All that a plain protocol needs is
imported from here; :mod:`ssl3d.evaluate.protocols.inner` has the inner splits, and a choice among settings by them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, get_args

import numpy as np
from pydantic import Field

from ssl3d.card import Card
from ssl3d.config import Config
from ssl3d.config import Config as BaseConfig
from ssl3d.recipe import AugmentRecipe, OneOrMore, Size
from ssl3d.task import Kind, Task

if TYPE_CHECKING:
    import torch

    from ssl3d.backbone import Backbone
    from ssl3d.evaluate.features import Source

__all__ = [
    "Card",
    "Config",
    "EncoderProblem",
    "EncoderProtocol",
    "FeatureProblem",
    "FeatureProtocol",
    "Field",
    "Kind",
    "OneOrMore",
    "Prediction",
    "Protocol",
    "Task",
]

C = TypeVar("C", bound=BaseConfig)


@dataclass(frozen=True)
class Prediction:
    """What a protocol says of the test cases.

    Attributes:
        probabilities: (N_test, K), rows sum to 1; (N_test, L) independent ones of a multi-label task;
            (N_test, 1) values of a regression.
        threshold: of the probability of class 1, from training data: positive at or above it; None if not binary.
        chosen: what was chosen inside the training data, and what had to give way ("folds": 3). Plain JSON values.
        out_of_fold: (N, K) of the training cases, each predicted by a fit that had not seen its patient; None where the
            protocol has none for all of them.
    """

    probabilities: np.ndarray
    threshold: float | None
    chosen: dict[str, Any] = field(default_factory=dict)
    out_of_fold: np.ndarray | None = None


@dataclass(frozen=True)
class FeatureProblem:
    """A task on frozen features.

    Attributes:
        train_x: (N, F) features of the training cases.
        train_y: (N,) class indices (categorical), or values; (N, L) of 0 and 1 (multi-label).
        test_x: (N_test, F).
        task: what is predicted; K or L are those of its classes.
        patients: (N,) patient of each training case: never separated by an inner split.
        folds: inner folds.
        seed: of inner splits.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    task: Task
    patients: np.ndarray
    folds: int = 5
    seed: int = 0


@dataclass(frozen=True)
class EncoderProblem:
    """A task on volumes, for a protocol that trains the encoder too.

    Attributes:
        encoder: on ``device``; a protocol leaves it as it was.
        source: of the volumes.
        train: numbers of the N training volumes in the source.
        test: numbers of the N_test test volumes.
        train_y, task, patients, folds, seed: as in :class:`FeatureProblem`.
        augment: what pretraining did to a view.
        view_size: (D, H, W).
        batch_size: volumes encoded at once in evaluation.
        device: where it happens.
        progress: called with (epochs done, epochs there will be at most).
    """

    encoder: Backbone
    source: Source
    train: Sequence[int]
    test: Sequence[int]
    train_y: np.ndarray
    task: Task
    patients: np.ndarray
    augment: AugmentRecipe
    view_size: Size
    batch_size: int
    device: torch.device
    folds: int = 5
    seed: int = 0
    progress: Callable[[int, int], None] | None = None


class Protocol(ABC, Generic[C]):
    """A way to evaluate an encoder, typed by its settings: ``class Linear(FeatureProtocol[LinearConfig])``.

    Subclass :class:`FeatureProtocol` or :class:`EncoderProtocol`.
    """

    card: ClassVar[Card]
    Config: ClassVar[type[BaseConfig]] = BaseConfig  # that of the type argument
    kinds: ClassVar[frozenset[Kind]] = frozenset({"binary", "multiclass", "ordinal"})  # tasks that it can predict
    config: C

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take the settings' class from the type argument."""
        super().__init_subclass__(**kwargs)
        for base in vars(cls).get("__orig_bases__", ()):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, BaseConfig):
                    cls.Config = argument

    def __init__(self, config: C | None = None) -> None:
        self.config = config or self.Config()  # type: ignore[assignment]  # the class of the type argument


class FeatureProtocol(Protocol[C]):
    """Evaluates features of a frozen encoder, which are extracted once for all such protocols."""

    @abstractmethod
    def predict(self, problem: FeatureProblem) -> Prediction:
        """Learn from the training cases and predict the test cases.

        Raises:
            DataError: one class only, features that are not finite, or shapes that disagree.
        """


class EncoderProtocol(Protocol[C]):
    """Evaluates an encoder by training a copy of it, or a head on its feature maps."""

    readout: ClassVar[str] = "last"  # what of the encoder it uses, as the tables have it

    @abstractmethod
    def predict(self, problem: EncoderProblem) -> Prediction:
        """Learn from the training volumes and predict the test volumes.

        Raises:
            DataError: one class only.
            RecipeError: the loss, or a prediction, is not finite, whatever was tried.
        """

"""The complete protocol contract: how an encoder is evaluated on one task. Loads neither torch nor scikit-learn.

A protocol makes its choices (strength, neighbours, epochs, threshold) within the training cases, keeping patients
together; it predicts the test cases once, and they are scored elsewhere. Everything a plain protocol needs can be
imported from here; :mod:`ssl3d.evaluate.protocols.inner` has the inner splits and a selection of settings on them.
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
    """A protocol's predictions of the test cases.

    Attributes:
        probabilities: (N_test, K), rows sum to 1; (N_test, L), independent, for a multi-label task;
            (N_test, 1) predicted values for regression.
        threshold: probability of class 1 from which a case is positive, from training data; None if not binary.
        chosen: settings selected on training data, and those that had to be reduced ("folds": 3). Plain JSON values.
        out_of_fold: (N, K) for the training cases, each predicted by a fit that had not seen its patient; None if the
            protocol does not predict all of them.
        notes: sentences for the reader of the tables, equal where they say the same: those of several seeds are merged.
    """

    probabilities: np.ndarray
    threshold: float | None
    chosen: dict[str, Any] = field(default_factory=dict)
    out_of_fold: np.ndarray | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FeatureProblem:
    """A task on frozen features.

    Attributes:
        train_x: (N, F) features of the training cases.
        train_y: (N,) class indices (categorical) or values; (N, L) of 0 and 1 (multi-label).
        test_x: (N_test, F).
        task: what is predicted; K or L is the number of its classes.
        patients: (N,) patient of each training case; never separated by an inner split.
        folds: number of inner folds.
        seed: seed of the inner splits.
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
    """A task on volumes, for a protocol that also trains the encoder.

    Attributes:
        encoder: on ``device``; a protocol must not change it.
        source: source of the volumes.
        train: indices of the N training volumes in the source.
        test: indices of the N_test test volumes.
        train_y, task, patients, folds, seed: as in :class:`FeatureProblem`.
        augment: augmentation that pretraining applied to a view.
        view_size: (D, H, W).
        batch_size: volumes encoded at once during evaluation.
        device: where to compute.
        progress: called with (epochs done, maximum number of epochs).
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
    Config: ClassVar[type[BaseConfig]] = BaseConfig  # set from the type argument
    kinds: ClassVar[frozenset[Kind]] = frozenset({"binary", "multiclass", "ordinal"})  # tasks that it can predict
    config: C

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take the settings class from the type argument."""
        super().__init_subclass__(**kwargs)
        for base in vars(cls).get("__orig_bases__", ()):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, BaseConfig):
                    cls.Config = argument

    def __init__(self, config: C | None = None) -> None:
        self.config = config or self.Config()  # type: ignore[assignment]  # the class of the type argument


class FeatureProtocol(Protocol[C]):
    """A protocol on features of a frozen encoder, which are extracted once for all such protocols."""

    @abstractmethod
    def predict(self, problem: FeatureProblem) -> Prediction:
        """Learn from the training cases and predict the test cases.

        Raises:
            DataError: there is only one class, features are not finite, or shapes disagree.
        """


class EncoderProtocol(Protocol[C]):
    """A protocol that trains a copy of the encoder, or a head on its feature maps."""

    readout: ClassVar[str] = "last"  # the part of the encoder that it uses, as printed in the tables

    @abstractmethod
    def predict(self, problem: EncoderProblem) -> Prediction:
        """Learn from the training volumes and predict the test volumes.

        Raises:
            DataError: there is only one class.
            RecipeError: the loss or a prediction is not finite with any of the settings tried.
        """

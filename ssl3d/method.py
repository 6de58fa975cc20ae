"""The complete method contract. A method is one short file that reads like its paper.

A method handles no trainer, device, rank, optimiser, logger, micro-batch or global random state, and imports from here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar, get_args

from pydantic import Field
from torch import Tensor, nn

from ssl3d.backbone import Backbone
from ssl3d.budget import Budget, resolved
from ssl3d.card import Card
from ssl3d.config import Config
from ssl3d.config import Config as BaseConfig
from ssl3d.data.augment import Augment
from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes
from ssl3d.parts.momentum import AUTO_MOMENTUM, AutoMomentum, Momentum, MomentumSetting, cosine_momentum
from ssl3d.parts.parameters import ParameterGroup, split_by_decay
from ssl3d.task import Task

__all__ = [
    "AUTO_MOMENTUM",
    "AnyMethod",
    "Augment",
    "AutoMomentum",
    "Backbone",
    "Batch",
    "Card",
    "Config",
    "Features",
    "Field",
    "Kept",
    "Loss",
    "Method",
    "Momentum",
    "MomentumSetting",
    "ParameterGroup",
    "Rng",
    "Rows",
    "Task",
    "Views",
    "Volumes",
    "cosine_momentum",
    "split_by_decay",
]

C = TypeVar("C", bound=Config)
Rows = Mapping[str, Tensor]  # by name, one row per volume: (B, ...) in a micro-batch, (N, ...) in a batch
Features = Tensor | Mapping[str, Tensor]  # (B, ...), or several such tensors by name


class Views:
    """V views of B volumes, and the per-volume values drawn with them.

    >>> Views(first, second)
    >>> Views(first, second, permutation=index)         # a tensor: one row per volume, (B, ...)
    >>> Views(first, second, mask=(mask_1, mask_2))     # a tuple of V: one row per volume and view; None: not this one

    Attributes:
        tensors: V tensors (B, C, D, H, W); sizes and channels may differ between views.
        rows: rows of the volumes.
        view_rows: for each view, its own rows and those of the volumes.
    """

    def __init__(self, *tensors: Tensor, **rows: Tensor | tuple[Tensor | None, ...]) -> None:
        self.tensors = tensors
        self.rows: dict[str, Tensor] = {name: row for name, row in rows.items() if isinstance(row, Tensor)}
        own: list[dict[str, Tensor]] = [dict(self.rows) for _ in tensors]
        for name, several in rows.items():
            if isinstance(several, tuple):
                for view, row in zip(own, several, strict=True):
                    view.update({} if row is None else {name: row})
        self.view_rows: tuple[dict[str, Tensor], ...] = tuple(own)

    def __len__(self) -> int:
        return len(self.tensors)


@dataclass(frozen=True)
class Batch:
    """The input of the loss for N volumes: a whole effective batch, or a micro-batch if the loss is not coupled.

    Attributes:
        online_features: outputs of ``online`` for each view that it encodes, N rows.
        target_features: outputs of ``target``; empty if it returns None.
        rows: rows of the volumes, (N, ...).
        view_rows: for each of the V views, its own rows and those of the volumes.
        progress: fraction of the training done before this step, in [0, 1).
    """

    online_features: tuple[Features, ...]
    target_features: tuple[Features, ...] = ()
    rows: Rows = field(default_factory=dict)
    view_rows: tuple[Rows, ...] = ()
    progress: float = 0.0

    @property
    def online(self) -> tuple[Tensor, ...]:
        """Features (N, ...) of each view, if ``online`` returns a tensor."""
        return tuple(_tensor(features) for features in self.online_features)

    @property
    def target(self) -> tuple[Tensor, ...]:
        """Features (N, ...) of each view, if ``target`` returns a tensor."""
        return tuple(_tensor(features) for features in self.target_features)

    @property
    def online_maps(self) -> tuple[Mapping[str, Tensor], ...]:
        """Features (N, ...) by name of each view, if ``online`` returns several."""
        return tuple(_mapping(features) for features in self.online_features)

    @property
    def target_maps(self) -> tuple[Mapping[str, Tensor], ...]:
        """Features (N, ...) by name of each view, if ``target`` returns several."""
        return tuple(_mapping(features) for features in self.target_features)


@dataclass(frozen=True)
class Loss:
    """The return value of ``loss``.

    Attributes:
        value: a scalar to minimise.
        weight: for an uncoupled loss, the number of elements it averages over (such as masked voxels); None: volumes.
        scalars: values to log.
        rows: one row per volume, (N, ...); passed to ``after_step`` for the whole effective batch.
        sums: values that are summed over the effective batch and passed to ``after_step``.
    """

    value: Tensor
    weight: Tensor | float | None = None
    scalars: Mapping[str, Tensor] = field(default_factory=dict)
    rows: Rows = field(default_factory=dict)
    sums: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """The ``rows`` (N, ...) and ``sums`` of the loss by name, over the whole effective batch."""

    rows: Rows = field(default_factory=dict)
    sums: Mapping[str, Tensor] = field(default_factory=dict)


class Method(nn.Module, ABC, Generic[C]):
    """A way to train a backbone, typed by its settings: ``class SimCLR(Method[SimCLRConfig])``.

    Args:
        backbone: the network to train.
        config: settings; the paper's if None.
        augment: makes one view of a batch of volumes, as set by the recipe.
        task: task of the labels, for a method that needs them.
        budget: length of the training, for settings that follow it; as long as the papers' if None.
    """

    card: ClassVar[Card]
    Config: ClassVar[type[BaseConfig]] = BaseConfig  # set from the type argument
    preset: ClassVar[Mapping[str, Any]] = {}  # the paper's values of recipe fields; the user's settings override them
    needs: ClassVar[frozenset[str]] = frozenset()  # rows beyond voxels: "labels", "patient", "case"
    needs_tokens: ClassVar[bool] = False  # whether the backbone must have ``forward_tokens``
    trains: ClassVar[bool] = True  # False: evaluated as it is built
    control: ClassVar[bool] = False  # True: appears in every table
    initial_weights: ClassVar[str | None] = None  # name of the backbone weights to start from, "kinetics400"
    family: ClassVar[bool] = False  # True: takes the weights to start from, a name or a file: pretrained:kinetics400
    own_backbone: ClassVar[str | None] = None  # backbone of a control, used instead of the user's
    coupled: ClassVar[bool] = True  # False: the loss is a mean over volumes that do not interact
    online_views: Sequence[int] | None = None  # views that ``online`` encodes; None: all
    target_views: Sequence[int] | None = None  # views that ``target`` encodes; None: all
    config: C

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take the settings class from the type argument."""
        super().__init_subclass__(**kwargs)
        for base in vars(cls).get("__orig_bases__", ()):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, BaseConfig):
                    cls.Config = argument

    def __init__(
        self,
        backbone: Backbone,
        config: C | None = None,
        augment: Augment | None = None,
        task: Task | None = None,
        budget: Budget | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = config or self.Config()  # type: ignore[assignment]  # the class of the type argument
        self.augment = augment or Augment()
        self.task = task
        self.budget = budget or Budget()
        self.resolved = resolved(self.config, self.budget)  # settings with a rule by name, each as a number
        self.build()

    def build(self) -> None:
        """Make heads, momentum encoders and buffers; the arguments of the constructor, and ``resolved``, are set."""

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        """Return views of the volumes; every random number comes from ``rng``. Makes two views by default."""
        return Views(self.augment(volumes, rng), self.augment(volumes, rng))

    def online(self, view: Tensor, rows: Rows) -> Features:  # noqa: ARG002  # for methods that draw rows
        """Return features (B, ...) with gradients. Heads that mix volumes belong in :meth:`loss`.

        Args:
            view: (B, C, D, H, W).
            rows: rows of this view and of its volumes, including those that the method ``needs``.
        """
        return self.backbone(view)

    def target(self, view: Tensor, rows: Rows) -> Features | None:  # noqa: ARG002  # for methods with a target
        """Return features (B, ...) without gradients (a momentum encoder's, or the voxels to predict), or None."""
        return None

    @abstractmethod
    def loss(self, batch: Batch) -> Loss:
        """Return the loss of the whole effective batch, as if memory were unlimited."""

    def after_step(self, progress: float, kept: Kept) -> None:
        """Update what changes once per optimiser step: momentum encoder, queue, centre.

        Args:
            progress: fraction of the training done before this step, in [0, 1).
            kept: rows and sums returned by :meth:`loss`, over the whole effective batch.
        """

    def embedding(self, features: Features) -> Tensor:
        """Return one vector per volume, (N, F), used to measure collapse. Default: the first features, pooled."""
        tensor = features if isinstance(features, Tensor) else next(iter(features.values()))
        if tensor.ndim == 3:  # tokens (N, T, F)
            return tensor.mean(dim=1)
        return tensor.flatten(2).mean(dim=2) if tensor.ndim > 3 else tensor

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return every trainable parameter once. Default: no decay for norms, biases, tokens and positions."""
        decay, exempt = split_by_decay(self)
        return [ParameterGroup(decay), ParameterGroup(exempt, weight_decay=0.0)]

    def encoder(self) -> Backbone:
        """Return the backbone to evaluate."""
        return self.backbone


AnyMethod = Method[Any]  # a method with any settings


def _tensor(features: Features) -> Tensor:
    if not isinstance(features, Tensor):
        raise TypeError(f"these features have names ({', '.join(features)}); read them from online_maps or target_maps")
    return features


def _mapping(features: Features) -> Mapping[str, Tensor]:
    if isinstance(features, Tensor):
        raise TypeError("these features have no names; read them from online or target")
    return features

"""The method contract, whole. A method is one short file that reads like its paper.

It never sees a trainer, a device, a rank, an optimiser, a logger, a micro-batch, or the global random state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from ssl3d.backbone import Backbone
from ssl3d.card import Card
from ssl3d.config import Config as MethodConfig
from ssl3d.data.augment import Augment
from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes


class Method(nn.Module, ABC):
    """A way to train a backbone without labels.

    Args:
        backbone: the network to train.
        config: settings; the paper's if None.
        augment: makes one view of a batch of volumes; what it does is set by the recipe.
    """

    card: ClassVar[Card]
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    preset: ClassVar[Mapping[str, Any]] = {}  # the paper's values of recipe fields; the user's own win over them
    trains: ClassVar[bool] = True  # False: judged as it is built
    baseline: ClassVar[bool] = False  # True: stands in every table
    initial_weights: ClassVar[str | None] = None  # name of the backbone weights to start from, "kinetics400"
    coupled: ClassVar[bool] = True  # False: the loss is a mean over volumes that do not touch each other
    online_views: ClassVar[Sequence[int] | None] = None  # views that `online` encodes; None: all
    target_views: ClassVar[Sequence[int] | None] = None  # views that `target` encodes; None: all

    def __init__(self, backbone: Backbone, config: MethodConfig | None = None, augment: Augment | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = config or self.Config()
        self.augment = augment or Augment()

    def views(self, volumes: Volumes, rng: Rng) -> tuple[Tensor, ...]:
        """Return V views (B, C, D, H, W) of the volumes; every random number comes from ``rng``. Default: two."""
        return self.augment(volumes, rng), self.augment(volumes, rng)

    def online(self, view: Tensor) -> Tensor:
        """Return features (B, F) that carry gradients. Heads belong into :meth:`loss`."""
        return self.backbone(view)  # type: ignore[no-any-return]  # torch types a module's call as Any

    def target(self, view: Tensor) -> Tensor | None:  # noqa: ARG002  # overridden by methods with a momentum encoder
        """Return features (B, F) of the momentum encoder, or None. Never carries gradients."""
        return None

    @abstractmethod
    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return ``{"loss": scalar, ...}`` for the whole effective batch, as if memory were infinite.

        Args:
            online: features (N, F) of ``online``, one tensor a view.
            target: features (N, F) of ``target``, one tensor a view; empty if it returns None.

        Returns:
            Scalars, which are logged, and tensors with one row a volume, which :meth:`after_step` is handed.
        """

    def after_step(self, progress: float, kept: Mapping[str, Tensor]) -> None:
        """Move what moves once an optimiser step: momentum encoder, queue, centre.

        Args:
            progress: share of the training done before this step, in [0, 1).
            kept: what :meth:`loss` returned with one row a volume, for the whole effective batch.
        """

    def encoder(self) -> Backbone:
        """Return the backbone that is judged."""
        return self.backbone

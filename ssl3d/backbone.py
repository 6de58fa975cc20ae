"""The backbone contract, whole: a network from a volume to one feature vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from ssl3d.card import Card
from ssl3d.config import Config

Norm = Literal["auto", "group", "batch", "frozen"]


class BackboneConfig(Config):
    """Settings that every backbone has; a backbone may add its own."""

    norm: Norm = Field(
        "auto",
        description="group (with weight standardisation) makes accumulation exact; batch sees micro-batches; frozen is "
        "batch norm with the statistics of pretrained weights; auto is group from scratch, frozen with weights",
    )


@dataclass(frozen=True)
class Weights:
    """Pretrained weights and the input that they were trained on.

    Attributes:
        url: where they are downloaded from.
        file: name of the file under the weights folder.
        size: (D, H, W) they were trained on.
        licence: of the weights.
    """

    url: str
    file: str
    size: tuple[int, int, int]
    licence: str


class Backbone(nn.Module, ABC):
    """A network from volumes (B, 1, D, H, W), standardised, to features (B, embed_dim).

    Any D, H, W of at least ``min_size`` is accepted. Nothing here knows of methods, devices or processes.

    Args:
        config: settings; the defaults if None.
        variant: what follows the name in ``family/variant``; None if nothing does.
    """

    card: ClassVar[Card]
    Config: ClassVar[type[BackboneConfig]] = BackboneConfig
    min_size: ClassVar[tuple[int, int, int]] = (1, 1, 1)
    weights: ClassVar[Mapping[str, Weights]] = {}  # pretrained weights by name, "kinetics400"
    family: ClassVar[bool] = False  # True: takes a variant, as in timm/resnet18
    embed_dim: int
    loaded: str | None = None  # what pretrained weights were loaded, and how many of their keys matched

    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__()
        self.config = config or self.Config()
        self.variant = variant

    @abstractmethod
    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return feature maps (B, F_i, D_i, H_i, W_i), fine to coarse."""

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, embed_dim): the mean over space of the coarsest map."""
        return self.forward_features(x)[-1].mean(dim=(2, 3, 4))  # (B, F)

    def load_pretrained(self, state: Mapping[str, Tensor]) -> tuple[int, int]:
        """Load a published state dict, its stem folded to one channel.

        Returns:
            (matched, expected): keys of this network that were found with the right shape, and all its keys.
        """
        raise NotImplementedError(f"{type(self).__name__} has no pretrained weights")

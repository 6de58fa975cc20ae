"""The complete backbone contract: a network from a volume to feature maps, tokens, and one feature vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl3d.card import Card
from ssl3d.config import Config
from ssl3d.errors import PluginError
from ssl3d.matching import load_matching

Norm = Literal["auto", "group", "batch", "frozen"]


class BackboneConfig(Config):
    """Settings shared by all backbones; a backbone may add its own."""

    norm: Norm = Field(
        "auto",
        description="group: with weight standardisation, exact under accumulation; batch: statistics of micro-batches; "
        "frozen: batch norm with the statistics of pretrained weights; auto: group from scratch, frozen with weights",
    )


@dataclass(frozen=True)
class Weights:
    """Pretrained weights and the input they were trained on.

    Attributes:
        url: download address.
        file: file name in the weights folder.
        size: (D, H, W) of the training input.
        licence: licence of the weights.
        sha256: SHA-256 of the file, or its first digits; None if neither the file name nor the source states it.
        normalisation: how the training input was normalised, in words; "" if unknown.
        spacing: millimetres between slices, rows and columns of the training input; None where it had none.
        corpora: data sets that they were pretrained on, by the names that data set plugins state.
        key_map: (beginning of a name in the file, its replacement here) pairs; a name takes the first that fits.
    """

    url: str
    file: str
    size: tuple[int, int, int]
    licence: str
    sha256: str | None = None
    normalisation: str = ""
    spacing: tuple[float, float, float] | None = None
    corpora: tuple[str, ...] = ()
    key_map: tuple[tuple[str, str], ...] = ()

    @property
    def input(self) -> str:
        """The training input in words: "16 x 112 x 112 voxels, 1 x 1 x 1 mm, z-score"."""
        spacing = "" if self.spacing is None else " x ".join(f"{step:g}" for step in self.spacing) + " mm"
        return ", ".join(filter(None, (" x ".join(map(str, self.size)) + " voxels", spacing, self.normalisation)))


class Tokens(NamedTuple):
    """Both outputs of a vision transformer, from one pass.

    Attributes:
        pooled: (B, F), the features of the volume: the class token, or the mean of the patches.
        patches: (B, T, F), one token per patch, without a class token.
    """

    pooled: Tensor
    patches: Tensor


class Backbone(nn.Module, ABC):
    """A network from standardised volumes (B, 1, D, H, W) to features (B, embed_dim).

    Any D, H, W of at least ``min_size`` is accepted. A backbone does not depend on methods, devices or processes.

    Args:
        config: settings; the defaults if None.
        variant: what follows the name in ``family/variant``; None if nothing does.
    """

    card: ClassVar[Card]
    Config: ClassVar[type[BackboneConfig]] = BackboneConfig
    min_size: ClassVar[tuple[int, int, int]] = (1, 1, 1)
    weights: ClassVar[Mapping[str, Weights]] = {}  # pretrained weights by name, "kinetics400"
    family: ClassVar[bool] = False  # True: takes a variant, as in timm/resnet18
    tokens: ClassVar[bool] = False  # True: has ``forward_tokens``
    readout_names: ClassVar[tuple[str, ...]] = ("last", "multi", "max")  # keys of ``readouts``
    patch_size: tuple[int, int, int] = (1, 1, 1)  # (D, H, W) of the patch behind one token
    embed_dim: int
    loaded: str | None = None  # the pretrained weights that were loaded, and how many keys matched

    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__()
        self.config = config or self.Config()
        self.variant = variant

    if TYPE_CHECKING:

        def __call__(self, x: Tensor) -> Tensor:
            """Return features (B, embed_dim), as ``forward`` does."""

    @abstractmethod
    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return feature maps (B, F_i, D_i, H_i, W_i), fine to coarse."""

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, embed_dim): the mean over space of the coarsest map."""
        return self.forward_features(x)[-1].mean(dim=(2, 3, 4))  # (B, F)

    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Return the features that a protocol can choose from, each (B, F_r), keyed by ``readout_names``.

        ``last`` is the output of ``forward``. ``multi`` concatenates the spatial means of all feature maps: early
        stages keep what the last one discards (Alain & Bengio 2016, arXiv 1610.01644). ``max`` is the spatial maximum
        of the coarsest map, in which a small lesion is not averaged away. ``mean`` is that of the tokens, where
        ``last`` may be a class token.
        """
        maps = self.forward_features(x)
        means = [one.mean(dim=(2, 3, 4)) for one in maps]  # each (B, F_i)
        last = means[-1] if type(self).forward is Backbone.forward else self(x)
        found = {"last": last, "multi": torch.cat(means, dim=1), "max": maps[-1].amax(dim=(2, 3, 4))}
        return found | ({"mean": means[-1]} if "mean" in self.readout_names else {})

    def forward_tokens(
        self,
        x: Tensor,  # noqa: ARG002
        keep: Tensor | None = None,  # noqa: ARG002
        mask: Tensor | None = None,  # noqa: ARG002
        mask_token: Tensor | None = None,  # noqa: ARG002
    ) -> Tokens:
        """Return the tokens of the patches in their order (D, then H, then W), and the features that ``forward`` gives.

        Args:
            x: (B, 1, D, H, W).
            keep: (B, K), indices of the patches to encode, in any order; the others are dropped, and T is K. None
                keeps all.
            mask: (B, T), true where ``mask_token`` replaces a patch's embedding. None masks nothing.
            mask_token: (F,).

        Raises:
            PluginError: this backbone has no tokens.
        """
        raise PluginError(f"{self.card.name} has no tokens; choose a vision transformer, such as vit3d_tiny")

    @classmethod
    def published_variant(cls, variant: str | None) -> str | None:
        """Return the variant in the address of published weights, of which a user may type a part."""
        return variant

    def load_pretrained(self, state: Mapping[str, Tensor]) -> tuple[int, int]:
        """Load a published state dict, with its stem reduced to one channel.

        Override it where published names or shapes differ from this network's, and ``published_state`` with it.

        Returns:
            What :func:`ssl3d.matching.load_matching` returns: (matched, expected) tensors of this network.
        """
        return load_matching(self, state)

    def published_state(self) -> Mapping[str, Tensor]:
        """Return the tensors under the names of the published network: the inverse of ``load_pretrained``."""
        return self.state_dict()

"""Backbones, each with one fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.backbone import BackboneConfig, Tokens, Weights
from ssl3d.testing.toys import ToyBackbone, ToyTokens


class WidthMisstated(ToyBackbone):
    embed_dim = 7


class OneSizeOnly(ToyBackbone):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % 2 == 0:
            raise ValueError("W must be odd")
        return super().forward(x)


class MapsFromCoarseToFine(ToyBackbone):
    def forward_features(self, x: Tensor) -> list[Tensor]:
        return super().forward_features(x)[::-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_features(x)[0].mean(dim=(2, 3, 4))


class BatchNormAlways(ToyBackbone):
    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        self.first[1] = nn.BatchNorm3d(4)


class LayerUnused(ToyBackbone):
    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        self.classifier = nn.Linear(6, 2)


class LayerRegisteredTwice(ToyBackbone):
    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        self.stem = self.first[0]


class DropsInEvaluation(ToyBackbone):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(super().forward(x), 0.5)


class ChangesItsInput(ToyBackbone):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(0.5))


class BufferNotInTheState(ToyBackbone):
    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        self.register_buffer("mix", torch.randn(6), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.get_buffer("mix")


class FullPrecisionOnly(ToyBackbone):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).lerp(self.get_parameter("second.bias").detach(), 0.1)  # two dtypes under autocast


class ReadsANumberBack(ToyBackbone):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1.0 if float(x[0, 0, 0, 0, 0]) < 1e6 else 0.5)


class WeightsInTheClear(ToyBackbone):
    weights: ClassVar[Mapping[str, Weights]] = {"kinetics400": Weights("http://a.org/w", "w.pth", (4, 9, 7), "MIT")}

    def load_pretrained(self, state: Mapping[str, Tensor]) -> tuple[int, int]:
        return 1, 1


# Tokens.


class KeepIgnored(ToyTokens):
    def forward_tokens(
        self, x: Tensor, keep: Tensor | None = None, mask: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tokens:
        return super().forward_tokens(x, None, mask, mask_token)


class KeptAfterTheBlocks(ToyTokens):
    """Dropped patches are still attended to."""

    def forward_tokens(
        self, x: Tensor, keep: Tensor | None = None, mask: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tokens:
        pooled, patches = super().forward_tokens(x, None, mask, mask_token)
        kept = patches if keep is None else patches.gather(1, keep.unsqueeze(2).expand(-1, -1, patches.shape[2]))
        return Tokens(pooled, kept)


class PooledTwiceAsLong(ToyTokens):
    """``pooled`` is not what ``forward`` gives."""

    def forward_tokens(
        self, x: Tensor, keep: Tensor | None = None, mask: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tokens:
        pooled, patches = super().forward_tokens(x, keep, mask, mask_token)
        return Tokens(2 * pooled, patches)


class PooledOfAllPatches(ToyTokens):
    """``pooled`` sees the patches that were dropped."""

    def forward_tokens(
        self, x: Tensor, keep: Tensor | None = None, mask: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tokens:
        return Tokens(
            super().forward_tokens(x, None, mask, mask_token).pooled,
            super().forward_tokens(x, keep, mask, mask_token).patches,
        )


class MaskIgnored(ToyTokens):
    def forward_tokens(
        self, x: Tensor, keep: Tensor | None = None, mask: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tokens:
        return super().forward_tokens(x, keep)

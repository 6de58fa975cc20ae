"""Tiny: a residual 3D CNN that trains in seconds on a CPU.

Not from a paper: basic residual blocks (He et al. 2015, arXiv 1512.03385, https://arxiv.org/abs/1512.03385) in 3D. The
stem halves rows and columns and keeps the slices, because slices are few and thick; later stages halve all three axes.
0.9 million parameters, 270 MFLOP per volume of 28 x 28 x 28; forward and backward of 32 take 0.2 to 0.3 s on one core.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from ssl3d.backbone import Backbone, BackboneConfig
from ssl3d.card import Card
from ssl3d.parts.norm import REPLACED_NORM, convert_norm

WIDTHS = (16, 16, 32, 64, 128)
STRIDES = (1, 2, 2, 2)


class Tiny(Backbone):
    """Stem and four residual blocks, 16 to 128 channels."""

    card: ClassVar[Card] = Card(
        name="Tiny",
        summary="small residual 3D CNN that trains in seconds on a CPU",
        paper="after He et al., Deep Residual Learning for Image Recognition",
        year=2015,
        link="https://arxiv.org/abs/1512.03385",
        departures=("Four blocks of two 3D convolutions, one a stage; the stem keeps every slice.", REPLACED_NORM),
    )
    min_size = (4, 16, 16)
    embed_dim = WIDTHS[-1]

    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        self.stem = nn.Sequential(_conv(1, WIDTHS[0], 3, (1, 2, 2)), nn.ReLU(inplace=True))
        self.stages = nn.ModuleList(_Block(*shape) for shape in zip(WIDTHS, WIDTHS[1:], STRIDES, strict=False))
        convert_norm(self, self.config.norm)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the four stages' maps: (B, 16, D, H/2, W/2) to (B, 128, D/8, H/16, W/16), rounded up."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class _Block(nn.Module):
    """Two convolutions and a shortcut, projected if the shape changes."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(width_in, width, 3, stride), nn.ReLU(inplace=True), _conv(width, width, 3, 1)
        )  # fmt: skip
        same = width_in == width and stride == 1
        self.shortcut = nn.Identity() if same else _conv(width_in, width, 1, stride)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.body(x) + self.shortcut(x))  # type: ignore[no-any-return]  # torch types a call as Any


def _conv(width_in: int, width: int, kernel: int, stride: int | tuple[int, int, int]) -> nn.Sequential:
    conv = nn.Conv3d(width_in, width, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm3d(width))

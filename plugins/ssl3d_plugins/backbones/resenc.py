"""ResEnc-L: the residual encoder of nnU-Net, as pretrained on OpenMind.

Isensee et al. 2024, nnU-Net Revisited, https://arxiv.org/abs/2404.09556; weights of Wald et al. 2024, An OpenMind for
3D Medical Vision Self-supervised Learning, https://arxiv.org/abs/2412.17041. A stem at full resolution and six stages
of ResNet-D blocks (He et al. 2018, arXiv 1812.01187), the last five halving all axes. It uses instance norm, so
``norm`` has no effect and accumulation is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.backbone import Backbone, BackboneConfig, Weights
from ssl3d.card import Card
from ssl3d.matching import load_matching

SLOPE = 0.01  # of leaky ReLU
NAMES = {"stem.convs.0.": "stem.", ".blocks.": ".", ".all_modules.0.": ".conv.", ".all_modules.1.": ".norm."}


class ResEncL(Backbone):
    """Stem and six stages, 32 to 320 channels."""

    card: ClassVar[Card] = Card(
        name="ResEnc-L",
        summary="residual encoder of nnU-Net, 90.3 million parameters; weights from brain MRI (OpenMind)",
        paper="Isensee et al., nnU-Net Revisited; weights of Wald et al., An OpenMind for 3D Medical Vision SSL",
        year=2024,
        link="https://arxiv.org/abs/2404.09556",
        departures=("Shortcuts pool the last voxel of an odd side too, so that any size is accepted.",),
    )
    weights: ClassVar[Mapping[str, Weights]] = {
        "openmind_mae": Weights(
            url="https://huggingface.co/MIC-DKFZ/ResEncL-OpenMind-MAE/resolve/main/checkpoint_final.pth",
            file="ResEncL-OpenMind-MAE.pth",
            size=(160, 160, 160),
            licence="CC BY 4.0",
            sha256="7a847af785635335c00e711d16ff4d225d86ecd5992b14c059df2b520e3ee933",
            normalisation="z-score",
            spacing=(1.0, 1.0, 1.0),
            corpora=("openmind",),
        )
    }
    min_size = (8, 64, 64)  # instance norm needs more than one voxel in the last map
    widths: ClassVar[tuple[int, ...]] = (32, 64, 128, 256, 320, 320)
    blocks: ClassVar[tuple[int, ...]] = (1, 3, 4, 6, 6, 6)

    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        self.embed_dim = self.widths[-1]
        self.stem = _Conv(1, self.widths[0], 3, act=True)
        stages, width_in = [], self.widths[0]
        for number, (width, count) in enumerate(zip(self.widths, self.blocks, strict=True)):
            first = _Block(width_in, width, 1 if number == 0 else 2)
            stages.append(nn.Sequential(first, *(_Block(width, width, 1) for _ in range(count - 1))))
            width_in = width
        self.stages = nn.ModuleList(stages)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the six stages' maps: (B, 32, D, H, W) to (B, 320, D/32, H/32, W/32), rounded up."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def load_pretrained(self, state: Mapping[str, Tensor]) -> tuple[int, int]:
        """Load the encoder of a published U-Net, which repeats each tensor under ``all_modules``."""
        found = {}
        for key, value in state.items():
            name = key.removeprefix("module.").removeprefix("encoder.")
            for old, new in NAMES.items():
                name = name.replace(old, new)
            found[name] = value
        return load_matching(self, found)


class _Conv(nn.Module):
    """Convolution, instance norm, and leaky ReLU if ``act``."""

    def __init__(self, width_in: int, width: int, kernel: int, stride: int = 1, act: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv3d(width_in, width, kernel, stride, kernel // 2, bias=kernel > 1)
        nn.init.kaiming_normal_(self.conv.weight, a=SLOPE)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
        self.norm = nn.InstanceNorm3d(width, affine=True)
        self.act = nn.LeakyReLU(SLOPE, inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))  # type: ignore[no-any-return]  # torch types a call as Any


class _Block(nn.Module):
    """Two convolutions and a shortcut that is pooled if strided, and then projected if the width changes."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _Conv(width_in, width, 3, stride, act=True)
        self.conv2 = _Conv(width, width, 3)
        shortcut: list[nn.Module] = []
        if stride > 1:
            shortcut.append(_Halve())
        if width_in != width:
            shortcut.append(_Conv(width_in, width, 1))
        self.skip = nn.Sequential(*shortcut)
        self.act = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.conv1(x)) + self.skip(x)
        return self.act(out)  # type: ignore[no-any-return]  # torch types a call as Any


class _Halve(nn.Module):
    """Average pooling over 2 x 2 x 2 voxels, rounded up as the strided convolution does; a side of 1 stays."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool3d(x, [min(2, side) for side in x.shape[2:]], ceil_mode=True)

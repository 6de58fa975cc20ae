"""MedicalNet: 3D ResNets pretrained to segment organs and lesions in CT and MRI.

Chen, Ma & Zheng 2019, Med3D: Transfer Learning for 3D Medical Image Analysis, https://arxiv.org/abs/1904.00625. The
stem halves all three axes and a max pool halves them again; the last two stages are dilated and keep their resolution,
so that the coarsest map is an eighth of the volume. Modules have the published names.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ssl3d.backbone import Backbone, BackboneConfig, Weights
from ssl3d.card import Card
from ssl3d.parts.norm import REPLACED_NORM, convert_norm

WIDTHS = (64, 128, 256, 512)


class MedicalNetConfig(BackboneConfig):
    """Settings of MedicalNet."""

    dilated: bool = Field(
        True,
        description="dilate the last two stages, as the published weights need; false: halve their resolution instead, "
        "which costs less",
    )


class _MedicalNet(Backbone):
    """A stem and four stages of residual blocks."""

    Config = MedicalNetConfig
    config: MedicalNetConfig
    min_size = (8, 16, 16)
    blocks: ClassVar[tuple[int, int, int, int]]  # residual blocks of each stage
    block: ClassVar[type[_Basic | _Bottleneck]]
    projected: ClassVar[bool] = True  # shortcuts of type B, a convolution; False: of type A, padded with zeros

    def __init__(self, config: MedicalNetConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        self.embed_dim = WIDTHS[-1] * self.block.expansion
        self.conv1 = nn.Conv3d(1, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        dilated = self.config.dilated
        self.layer1 = self._stage(64, 0, stride=1)
        self.layer2 = self._stage(64, 1, stride=2)
        self.layer3 = self._stage(128, 2, stride=1, dilation=2) if dilated else self._stage(128, 2, stride=2)
        self.layer4 = self._stage(256, 3, stride=1, dilation=4) if dilated else self._stage(256, 3, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        convert_norm(self, self.config.norm)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the four stages' maps: (B, 64, D/4, H/4, W/4) to (B, 512, D/8, H/8, W/8), rounded up.

        Bottlenecks have four times the channels; without dilation the last map is (B, 512, D/32, H/32, W/32).
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps

    def _stage(self, planes_in: int, number: int, stride: int, dilation: int = 1) -> nn.Sequential:
        """Return the blocks of a stage; only the first one changes the width, and strides."""
        expansion, planes = self.block.expansion, WIDTHS[number]
        width_in, width = planes_in * (expansion if number else 1), planes * expansion
        shortcut: nn.Module = nn.Identity()
        if stride > 1 or width_in != width:
            shortcut = _projection(width_in, width, stride) if self.projected else _Padding(width, stride)
        blocks = [self.block(width_in, planes, stride, dilation, shortcut)]
        blocks += [self.block(width, planes, 1, dilation, nn.Identity()) for _ in range(self.blocks[number] - 1)]
        return nn.Sequential(*blocks)


class _Basic(nn.Module):
    """Two 3x3x3 convolutions and a shortcut."""

    expansion: ClassVar[int] = 1

    def __init__(self, width_in: int, planes: int, stride: int, dilation: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(width_in, planes, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = nn.Conv3d(planes, planes, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm3d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + self.downsample(x))  # type: ignore[no-any-return]  # torch types a call as Any


class _Bottleneck(nn.Module):
    """A 3x3x3 convolution between two of 1x1x1, and a shortcut."""

    expansion: ClassVar[int] = 4

    def __init__(self, width_in: int, planes: int, stride: int, dilation: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(width_in, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = nn.Conv3d(planes, planes, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm3d(planes)
        self.conv3 = nn.Conv3d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(4 * planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + self.downsample(x))  # type: ignore[no-any-return]  # torch types a call as Any


class _Padding(nn.Module):
    """Shortcut of type A (He et al. 2015, section 3.3): every ``stride``-th voxel, and zeros for the new channels."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.width, self.stride = width, stride

    def forward(self, x: Tensor) -> Tensor:
        strided = x[:, :, :: self.stride, :: self.stride, :: self.stride]
        return F.pad(strided, (0, 0, 0, 0, 0, 0, 0, self.width - x.shape[1]))


def _projection(width_in: int, width: int, stride: int) -> nn.Sequential:
    """Return a shortcut of type B: a strided 1x1x1 convolution and a norm."""
    return nn.Sequential(nn.Conv3d(width_in, width, 1, stride, bias=False), nn.BatchNorm3d(width))


def _card(depth: int, summary: str) -> Card:
    return Card(
        name=f"MedicalNet-{depth}",
        summary=summary,
        paper="Chen et al., Med3D: Transfer Learning for 3D Medical Image Analysis",
        year=2019,
        link="https://arxiv.org/abs/1904.00625",
        departures=(REPLACED_NORM,),
    )


def _weights(depth: int) -> dict[str, Weights]:
    file = f"resnet_{depth}_23dataset.pth"
    url = f"https://huggingface.co/TencentMedicalNet/MedicalNet-Resnet{depth}/resolve/main/{file}"
    weights = Weights(
        url=url,
        file=f"medicalnet-{file}",
        size=(56, 448, 448),
        licence="MIT",
        normalisation="z-score of the voxels above 0",
        corpora=("3dseg-8",),
        key_map=(("module.", ""),),
    )
    return {"medicalnet": weights}


class MedicalNet10(_MedicalNet):
    """One basic block per stage."""

    card: ClassVar[Card] = _card(10, "3D ResNet-10, dilated; weights from 23 segmentation data sets of CT and MRI")
    weights = _weights(10)
    block, blocks = _Basic, (1, 1, 1, 1)


class MedicalNet18(_MedicalNet):
    """Two basic blocks per stage, with shortcuts of type A."""

    card: ClassVar[Card] = _card(18, "3D ResNet-18, dilated; weights from 23 segmentation data sets of CT and MRI")
    weights = _weights(18)
    block, blocks, projected = _Basic, (2, 2, 2, 2), False


class MedicalNet34(_MedicalNet):
    """Three to six basic blocks per stage, with shortcuts of type A."""

    card: ClassVar[Card] = _card(34, "3D ResNet-34, dilated; weights from 23 segmentation data sets of CT and MRI")
    weights = _weights(34)
    block, blocks, projected = _Basic, (3, 4, 6, 3), False


class MedicalNet50(_MedicalNet):
    """Three to six bottlenecks per stage."""

    card: ClassVar[Card] = _card(50, "3D ResNet-50, dilated; weights from 23 segmentation data sets of CT and MRI")
    weights = _weights(50)
    block, blocks = _Bottleneck, (3, 4, 6, 3)

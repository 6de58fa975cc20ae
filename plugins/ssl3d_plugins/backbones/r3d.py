"""R3D, MC3 and R(2+1)D of depth 18: video ResNets, as in torchvision.

Tran et al. 2018, A Closer Look at Spatiotemporal Convolutions for Action Recognition, https://arxiv.org/abs/1711.11248.
R3D convolves in 3D throughout, MC3 in 3D only in the first stage, R(2+1)D in-plane and then across slices.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torchvision.models import get_model  # type: ignore[import-untyped]

from ssl3d.backbone import Backbone, BackboneConfig, Weights
from ssl3d.card import Card
from ssl3d.parts.norm import REPLACED_NORM, convert_norm
from ssl3d.parts.stem import one_channel

DEPARTURES = (
    "One input channel: the stem's kernels are summed over RGB, the same function of a grey volume.",
    REPLACED_NORM,
)


def _card(name: str, summary: str) -> Card:
    paper = "Tran et al., A Closer Look at Spatiotemporal Convolutions for Action Recognition"
    return Card(name, summary, paper, 2018, "https://arxiv.org/abs/1711.11248", DEPARTURES)


def _kinetics(file: str) -> dict[str, Weights]:
    address = f"https://download.pytorch.org/models/{file}"
    return {
        "kinetics400": Weights(
            url=address,
            file=file,
            size=(16, 112, 112),
            licence="none stated for the weights (the code is BSD-3-Clause)",
            normalisation="colours in [0, 1] by mean (0.432, 0.395, 0.376) and deviation (0.228, 0.221, 0.217)",
            corpora=("kinetics400",),
        )
    }


class R3D18(Backbone):
    """3D ResNet-18. Its modules have torchvision's names."""

    card: ClassVar[Card] = _card("R3D-18", "3D ResNet-18 of torchvision, the encoder of BYOLMed3D")
    weights = _kinetics("r3d_18-b3b3357e.pth")
    min_size = (8, 32, 32)
    embed_dim = 512
    model: ClassVar[str] = "r3d_18"

    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        network = get_model(self.model)
        self.stem = network.stem
        self.stem[0] = one_channel(network.stem[0])
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4
        convert_norm(self, self.config.norm)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the four stages' maps: (B, 64, D, H/2, W/2) to (B, 512, D/8, H/16, W/16), rounded up.

        MC3 keeps all slices.
        """
        x = self.stem(x)
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps


class MC318(R3D18):
    """ResNet-18 with 3D convolutions in the first stage and 2D ones after it."""

    card: ClassVar[Card] = _card("MC3-18", "ResNet-18 of torchvision, 3D convolutions in the first stage only")
    weights = _kinetics("mc3_18-a90a0ba3.pth")
    model = "mc3_18"


class R2Plus1D18(R3D18):
    """ResNet-18 with each 3D convolution split into one in the plane and one across slices."""

    card: ClassVar[Card] = _card("R(2+1)D-18", "ResNet-18 of torchvision, convolutions split into plane and slices")
    weights = _kinetics("r2plus1d_18-91a641e6.pth")
    model = "r2plus1d_18"

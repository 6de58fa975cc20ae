"""Video networks of pytorchvideo's model zoo, without their classifiers.

Fan et al. 2021, PyTorchVideo, https://arxiv.org/abs/2111.09887; each class names the paper of its network. Modules have
the zoo's names. The zoo's heads pool over the size of the training clips; here they pool over any size.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from torch import Tensor, nn

from ssl3d.backbone import Backbone, BackboneConfig, Weights
from ssl3d.card import Card
from ssl3d.parts.norm import REPLACED_NORM, convert_norm

with warnings.catch_warnings():  # fvcore scripts functions when it is imported, which torch deprecates
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")
    from pytorchvideo.layers.swish import Swish
    from pytorchvideo.models import hub

ZOO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics"
LICENCE = "none stated for the weights (the code is Apache-2.0)"
DEPARTURES = (
    "One input channel: the stem's kernels are summed over RGB, the same function of a grey volume.",
    "Features are pooled over the whole map at any size, not in windows of the size of training.",
    REPLACED_NORM,
)


class VideoNet(Backbone):
    """A network of the zoo: a stem, four stages and a head, all in ``blocks``. Subclasses name it."""

    model: ClassVar[str]  # name in pytorchvideo.models.hub
    embed_dim = 2048
    min_size = (4, 32, 32)

    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        self.blocks: nn.ModuleList = getattr(hub, self.model)(input_channel=1).blocks
        _pool_any_size(self.blocks[-1])
        _use_silu(self)
        convert_norm(self, self.config.norm)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the four stages' maps (B, F_i, D_i, H_i, W_i), each with half the in-plane resolution of the last."""
        x = self.blocks[0](x)
        maps = []
        for block in self.blocks[1:-1]:
            x = block(x)
            if not isinstance(block, nn.MaxPool3d):  # c2d and i3d pool over slices between stages
                maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, 2048), the input of the network's classifier."""
        return self.blocks[-1](self.forward_features(x)[-1])  # type: ignore[no-any-return]  # torch types a call as Any


def _pool_any_size(head: Any) -> None:
    """Remove a head's classifier, and make it pool over any size. X3D projects the pooled features."""
    head.proj = nn.Identity()
    head.dropout = head.activation = None
    if isinstance(head.pool, nn.AvgPool3d):
        head.pool = None
    else:
        head.pool.pool = nn.AdaptiveAvgPool3d(1)


def _use_silu(module: nn.Module) -> None:
    """Replace pytorchvideo's Swish by torch's equivalent, because its backward pass uses deprecated torch functions."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Swish):
                setattr(parent, name, nn.SiLU())


def _card(name: str, summary: str, paper: str, year: int, arxiv: str) -> Card:
    return Card(name, summary, paper, year, f"https://arxiv.org/abs/{arxiv}", DEPARTURES)


def _kinetics(file: str, *size: int) -> dict[str, Weights]:
    depth, height, width = size
    weights = Weights(
        url=f"{ZOO}/{file}",
        file=file,
        size=(depth, height, width),
        licence=LICENCE,
        normalisation="colours in [0, 1] by mean 0.45 and deviation 0.225",
        corpora=("kinetics400",),
    )
    return {"kinetics400": weights}


class SlowR50(VideoNet):
    """The slow pathway of SlowFast, a ResNet-50 that convolves across slices in its last two stages."""

    paper = "Feichtenhofer et al., SlowFast Networks for Video Recognition", 2019, "1812.03982"
    card: ClassVar[Card] = _card("Slow R50", "ResNet-50, 3D in its last two stages, from SlowFast", *paper)
    model = "slow_r50"
    weights = _kinetics("SLOW_8x8_R50.pyth", 8, 224, 224)


class C2DR50(VideoNet):
    """ResNet-50 that convolves in the plane only, and pools over pairs of slices once."""

    paper = "Wang et al., Non-local Neural Networks", 2018, "1711.07971"
    card: ClassVar[Card] = _card("C2D R50", "ResNet-50 that convolves in the plane only", *paper)
    model = "c2d_r50"
    weights = _kinetics("C2D_8x8_R50.pyth", 8, 224, 224)


class I3DR50(VideoNet):
    """ResNet-50 inflated to 3D in every other block."""

    paper = "Carreira and Zisserman, Quo Vadis, Action Recognition?", 2017, "1705.07750"
    card: ClassVar[Card] = _card("I3D R50", "ResNet-50 inflated to 3D in every other block", *paper)
    model = "i3d_r50"
    weights = _kinetics("I3D_8x8_R50.pyth", 8, 224, 224)


class CSNR101(VideoNet):
    """ResNet-101 whose 3D convolutions are depthwise."""

    paper = "Tran et al., Video Classification with Channel-Separated Convolutional Networks", 2019, "1904.02811"
    card: ClassVar[Card] = _card("CSN R101", "ResNet-101 with depthwise 3D convolutions", *paper)
    model = "csn_r101"
    min_size = (8, 32, 32)
    weights = _kinetics("CSN_32x2_R101.pyth", 32, 224, 224)


class R2Plus1DR50(VideoNet):
    """ResNet-50 with each 3D convolution split into one in the plane and one across slices."""

    paper = "Tran et al., A Closer Look at Spatiotemporal Convolutions for Action Recognition", 2018, "1711.11248"
    card: ClassVar[Card] = _card("R(2+1)D R50", "ResNet-50, convolutions split into plane and slices", *paper)
    model = "r2plus1d_r50"
    weights = _kinetics("R2PLUS1D_16x4_R50.pyth", 16, 224, 224)


class X3DXS(VideoNet):
    """X3D expanded from a small 2D network along space, time, width and depth; light in multiplications."""

    paper = "Feichtenhofer, X3D: Expanding Architectures for Efficient Video Recognition", 2020, "2004.04730"
    card: ClassVar[Card] = _card("X3D-XS", "light, depthwise 3D convolutions, weights from 4 slices", *paper)
    model = "x3d_xs"
    weights = _kinetics("X3D_XS.pyth", 4, 160, 160)


class X3DS(X3DXS):
    """The network of X3D-XS, with weights from clips of 13 slices."""

    card: ClassVar[Card] = _card("X3D-S", "the network of X3D-XS, weights from 13 slices", *X3DXS.paper)
    model = "x3d_s"
    weights = _kinetics("X3D_S.pyth", 13, 160, 160)


class X3DM(X3DXS):
    """The network of X3D-XS, with weights from clips of 16 slices at 224 x 224."""

    card: ClassVar[Card] = _card("X3D-M", "the network of X3D-XS, weights from 16 slices at 224 x 224", *X3DXS.paper)
    model = "x3d_m"
    weights = _kinetics("X3D_M.pyth", 16, 224, 224)

"""S3D: Inception blocks with each 3D convolution split into one in the plane and one across slices, as in torchvision.

Xie et al. 2018, Rethinking Spatiotemporal Feature Learning, https://arxiv.org/abs/1712.04851.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from torchvision.models import get_model  # type: ignore[import-untyped]

from ssl3d.backbone import Backbone, BackboneConfig, Weights
from ssl3d.card import Card
from ssl3d.parts.norm import REPLACED_NORM, convert_norm
from ssl3d.parts.stem import one_channel

FILE = "s3d-d76dad2f.pth"
LICENCE = "none stated for the weights (the code is BSD-3-Clause)"
STAGE_ENDS = (3, 6, 12, 15)  # the modules before a max pool, and the last one


class S3D(Backbone):
    """S3D. Its modules have torchvision's names."""

    card: ClassVar[Card] = Card(
        name="S3D",
        summary="Inception network, convolutions split into plane and slices; light, 7.9 million parameters",
        paper="Xie et al., Rethinking Spatiotemporal Feature Learning",
        year=2018,
        link="https://arxiv.org/abs/1712.04851",
        departures=(
            "One input channel: the stem's kernels are summed over RGB, the same function of a grey volume.",
            "Features are the mean of the last map at any size, not of windows of 2 x 7 x 7 of it.",
            REPLACED_NORM,
        ),
    )
    weights: ClassVar[Mapping[str, Weights]] = {
        "kinetics400": Weights(
            url=f"https://download.pytorch.org/models/{FILE}",
            file=FILE,
            size=(64, 224, 224),
            licence=LICENCE,
            normalisation="colours in [0, 1] by mean (0.432, 0.395, 0.376) and deviation (0.228, 0.221, 0.217)",
            corpora=("kinetics400",),
        )
    }
    min_size = (8, 32, 32)
    embed_dim = 1024

    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        self.features = get_model("s3d").features
        self.features[0][0][0] = one_channel(self.features[0][0][0])
        convert_norm(self, self.config.norm)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return four maps: (B, 192, D/2, H/4, W/4), (B, 480, D/2, H/8, W/8) to (B, 1024, D/8, H/32, W/32)."""
        maps = []
        for number, module in enumerate(self.features):
            x = module(x)
            if number in STAGE_ENDS:
                maps.append(x)
        return maps

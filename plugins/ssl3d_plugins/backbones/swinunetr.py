"""SwinUNETR: the shifted-window encoder of a segmentation network, as in MONAI.

Hatamizadeh et al. 2022, Swin UNETR, https://arxiv.org/abs/2201.01266; weights of Tang et al. 2022, Self-Supervised
Pre-Training of Swin Transformers for 3D Medical Image Analysis, https://arxiv.org/abs/2111.14791. It needs MONAI, an
extra: pip install 'ssl3d[monai]'. It uses layer norm, so ``norm`` has no effect and accumulation is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from ssl3d.backbone import Backbone, BackboneConfig, Weights
from ssl3d.card import Card
from ssl3d.errors import PluginError
from ssl3d.matching import load_matching


class SwinUNETR(Backbone):
    """The encoder of SwinUNETR, 48 features wide. Its modules have MONAI's names."""

    card: ClassVar[Card] = Card(
        name="SwinUNETR",
        summary="encoder of SwinUNETR, 8.1 million parameters; weights from 5,050 CTs; needs MONAI",
        paper="Hatamizadeh et al., Swin UNETR; weights of Tang et al. 2022",
        year=2022,
        link="https://arxiv.org/abs/2201.01266",
        departures=("Its encoder alone, without the convolutions and the decoder of the segmentation network.",),
    )
    weights: ClassVar[Mapping[str, Weights]] = {
        "ct_ssl": Weights(
            url="https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/model_swinvit.pt",
            file="model_swinvit.pt",
            size=(96, 96, 96),
            licence="Apache-2.0",
            normalisation="-1000 to 1000 HU scaled to [0, 1]",
            spacing=(2.0, 1.5, 1.5),
            corpora=("luna16", "lidc", "hnscc", "tcia-covid19", "tcia-colon"),
        )
    }
    min_size = (8, 32, 32)
    embed_dim = 768

    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        self.model = _encoder()

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return five maps, normalised over channels: (B, 48, D/2, H/2, W/2) to (B, 768, D/32, H/32, W/32)."""
        maps = self.model(x, normalize=False)
        return [F.layer_norm(one.movedim(1, -1), one.shape[1:2]).movedim(-1, 1) for one in maps]

    def load_pretrained(self, state: Mapping[str, Tensor]) -> tuple[int, int]:
        """Load the published weights, which call the layers of an MLP fc1 and fc2, without their pretext heads."""
        found = {}
        for key, value in state.items():
            name = key.removeprefix("module.").removeprefix("swinViT.").removeprefix("swin_vit.")
            found[name.replace(".fc", ".linear")] = value
        return load_matching(self.model, found)


def _encoder() -> Any:
    """Build MONAI's encoder.

    Raises:
        PluginError: MONAI is not installed.
    """
    try:
        from monai.networks.nets.swin_unetr import SwinTransformer  # noqa: PLC0415  # an extra, and slow to import
    except ImportError as error:
        raise PluginError("backbone 'swinunetr' needs MONAI, an extra: pip install 'ssl3d[monai]'") from error
    return SwinTransformer(1, 48, (7, 7, 7), (2, 2, 2), depths=(2, 2, 2, 2), num_heads=(3, 6, 12, 24))

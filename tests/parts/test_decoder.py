"""The U-Net decoder: sizes, against its definition, and one prediction per volume."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl3d.backbone import Backbone
from ssl3d.parts.decoder import UNetDecoder, map_shapes
from ssl3d.testing.toys import ToyBackbone
from ssl3d_plugins.backbones.tiny import Tiny
from tests.plugins.small import SmallViT


class ReadsValues(ToyBackbone):
    """Cannot run on meta tensors."""

    def forward_features(self, x: Tensor) -> list[Tensor]:
        return super().forward_features(x * 2 if float(x.sum()) > 0 else x)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("backbone", "size"), [(Tiny(), (5, 33, 22)), (ToyBackbone(), (4, 9, 7)), (SmallViT(), (4, 12, 8))]
)
def test_predictions_have_the_size_of_the_view_and_differ_from_voxel_to_voxel(
    backbone: Backbone, size: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    decoder = UNetDecoder(map_shapes(backbone, size), size, outputs=2)
    voxels = decoder(backbone.forward_features(noise(2, 1, *size)))
    assert voxels.shape == (2, 2, *size)
    assert len(voxels[0, 0].unique()) > 0.9 * voxels[0, 0].numel()  # also within one patch, or one place of a map
    sizes = [shape[1:] for shape in map_shapes(backbone, size)[::-1]] + decoder.sizes
    assert {*sizes} == {*decoder.sizes}
    assert decoder.sizes[-1] == size
    for before, after in zip(decoder.sizes, decoder.sizes[1:], strict=False):
        assert all(now <= 2 * then for then, now in zip(before, after, strict=True))


def test_two_maps_are_decoded_as_written_out() -> None:
    torch.manual_seed(0)
    decoder = UNetDecoder([(4, 2, 5, 3), (6, 1, 3, 2)], (2, 5, 6), outputs=1, width=16).double()
    fine, coarse = noise(2, 4, 2, 5, 3).double(), noise(2, 6, 1, 3, 2).double()
    weights = {name: value.double() for name, value in decoder.state_dict().items()}

    def block(name: str, x: Tensor) -> Tensor:
        x = F.conv3d(x, weights[f"{name}.0.weight"], padding=1)
        grouped = x.unflatten(1, (len(weights[f"{name}.1.weight"]) // 4, 4)).flatten(2)  # four channels a group
        mean, variance = grouped.mean(2, keepdim=True), grouped.var(2, keepdim=True, correction=0)
        normed = ((grouped - mean) / (variance + 1e-5).sqrt()).view_as(x)
        affine = [weights[f"{name}.1.{part}"].view(-1, 1, 1, 1) for part in ("weight", "bias")]
        return (normed * affine[0] + affine[1]).clamp(min=0)

    def projected(level: int, x: Tensor) -> Tensor:
        return F.conv3d(x, weights[f"project.{level}.0.weight"], weights[f"project.{level}.0.bias"])

    x = block("refine.0", projected(0, coarse))  # (2, 16, 1, 3, 2)
    enlarged = x[:, :, [0, 0]][:, :, :, [0, 0, 1, 1, 2]][..., [0, 0, 1]]
    x = block("refine.1", block("enlarge.1", enlarged) + projected(1, fine))  # (2, 8, 2, 5, 3)
    x = block("refine.2", block("enlarge.2", x[..., [0, 0, 1, 1, 2, 2]]))
    expected = F.conv3d(x, weights["predict.weight"], weights["predict.bias"])
    torch.testing.assert_close(decoder([fine, coarse]), expected, rtol=1e-11, atol=1e-12)


def test_a_prediction_does_not_depend_on_the_other_volumes() -> None:
    decoder = UNetDecoder([(4, 2, 5, 3), (6, 1, 3, 2)], (2, 5, 6), outputs=1).double()
    maps = [noise(3, 4, 2, 5, 3).double(), noise(3, 6, 1, 3, 2).double()]
    torch.testing.assert_close(decoder(maps)[1:2], decoder([one[1:2] for one in maps]), rtol=1e-12, atol=1e-14)


def test_shapes_of_maps_are_known_without_running_the_backbone_or_else_by_running_it() -> None:
    assert map_shapes(Tiny(), (8, 32, 20)) == [(16, 8, 16, 10), (32, 4, 8, 5), (64, 2, 4, 3), (128, 1, 2, 2)]
    assert map_shapes(ReadsValues(), (4, 9, 7)) == [(4, 4, 9, 7), (6, 4, 5, 4)]

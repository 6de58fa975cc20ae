"""Sparse networks: what hidden voxels hold has no effect, and visible places get what a sparse convolution gives."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.backbone import BackboneConfig
from ssl3d.errors import PluginError
from ssl3d.parts.sparse import check_sparse, mask_at, sparse
from ssl3d.testing.toys import ToyBackbone
from ssl3d_plugins.backbones.tiny import Tiny
from tests.plugins.small import SmallViT

SIZE, GRID = (2, 6, 4), (2, 3, 2)  # of a view, and of its coarsest map
Place = tuple[int, ...]
Sites = dict[Place, Tensor]  # features of the visible places; there are no others


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def visible_places(count: int = 2) -> Tensor:
    return noise(count, *GRID, seed=1) > 0.2


def toy() -> ToyBackbone:
    torch.manual_seed(0)
    backbone = ToyBackbone().double()
    norm = backbone.first[1]
    assert isinstance(norm, nn.GroupNorm)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return backbone


def encoded(backbone: ToyBackbone | Tiny, view: Tensor, visible: Tensor) -> list[Tensor]:
    with sparse(backbone, visible):
        return backbone.forward_features(view * mask_at(visible, view.shape[2:]))


def convolved(sites: Sites, layer: nn.Conv3d, places: list[Place]) -> Sites:
    """Return a sparse convolution: a sum over the neighbours that exist."""
    result = {}
    for place in places:
        assert layer.bias is not None
        total = layer.bias
        for offset in itertools.product(*map(range, layer.kernel_size)):
            start = [p * s - q for p, s, q in zip(place, layer.stride, map(int, layer.padding), strict=True)]
            source = tuple(s + o for s, o in zip(start, offset, strict=True))
            if source in sites:
                total = total + layer.weight[:, :, offset[0], offset[1], offset[2]] @ sites[source]
        result[place] = total
    return result


def normalised(sites: Sites, layer: nn.GroupNorm) -> Sites:
    table = torch.stack(list(sites.values()))  # (places, F)
    grouped = table.reshape(len(table), layer.num_groups, -1)
    centred = grouped - grouped.mean((0, 2), keepdim=True)
    scaled = centred / (centred.square().mean((0, 2), keepdim=True) + layer.eps).sqrt()
    return dict(zip(sites, scaled.reshape(table.shape) * layer.weight + layer.bias, strict=True))


def test_maps_are_those_of_sparse_convolutions_and_zero_elsewhere() -> None:
    backbone, view, visible = toy(), noise(2, 1, *SIZE), visible_places()
    found = encoded(backbone, view, visible)
    first, norm, second = backbone.first[0], backbone.first[1], backbone.second
    assert isinstance(first, nn.Conv3d)
    assert isinstance(norm, nn.GroupNorm)
    for volume in range(2):
        coarse = [p for p in itertools.product(*map(range, GRID)) if visible[volume][p]]
        fine = [(d, h, w) for d, h, w in itertools.product(*map(range, SIZE)) if visible[volume, d, h // 2, w // 2]]
        sites = convolved({place: view[volume, :, *place] for place in fine}, first, fine)
        sites = {place: F.gelu(one) for place, one in normalised(sites, norm).items()}
        for one, expected in zip(found, (sites, convolved(sites, second, coarse)), strict=True):
            dense = torch.zeros_like(one[volume])
            for place, features in expected.items():
                dense[:, *place] = features
            torch.testing.assert_close(one[volume], dense, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("backbone", [toy(), Tiny().double()])
def test_maps_do_not_depend_on_hidden_voxels(backbone: ToyBackbone | Tiny) -> None:
    size = (4, 32, 48)
    visible = torch.tensor([[[[True, False, False], [False, False, True]]]])  # (1, 1, 2, 3)
    view, other = noise(1, 1, *size), noise(1, 1, *size, seed=2)
    mixed = torch.where(mask_at(visible, size) > 0, view, other)
    assert not torch.equal(view, mixed)
    for ours, theirs in zip(encoded(backbone, view, visible), encoded(backbone, mixed, visible), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.abs().sum() > 0
        assert not (ours * (1 - mask_at(visible, ours.shape[2:]))).any()


def test_a_network_that_sees_everything_is_the_plain_one_and_stays_so_afterwards() -> None:
    backbone, view = Tiny().double(), noise(2, 1, 4, 32, 48)
    before = backbone.forward_features(view)
    for maps in (encoded(backbone, view, torch.ones(2, 1, 2, 3, dtype=torch.bool)), backbone.forward_features(view)):
        for ours, theirs in zip(maps, before, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    assert all(torch.equal(*pair) for pair in zip(backbone.forward_features(view), before, strict=True))


def test_a_refused_network_is_left_as_it_was() -> None:
    backbone, view = Tiny(BackboneConfig(norm="batch")).double().eval(), noise(1, 1, 4, 32, 48)
    before = backbone.forward_features(view)
    with pytest.raises(PluginError):
        encoded(backbone, view, torch.ones(1, 1, 2, 3, dtype=torch.bool))
    assert all(torch.equal(*pair) for pair in zip(backbone.forward_features(view), before, strict=True))


class Squeezed(ToyBackbone):
    """Convolves the mean over all places, as squeeze and excitation does."""

    def forward_features(self, x: Tensor) -> list[Tensor]:
        maps = super().forward_features(x)
        return [maps[0], maps[1] + self.second(maps[0].mean((2, 3, 4), keepdim=True))]


def test_a_network_that_cannot_be_masked_is_refused_before_it_trains() -> None:
    for backbone, message in (
        (
            SmallViT(),
            r"SmallViT cannot .*: its Linear cannot be masked; choose a convolutional backbone with group norm",
        ),
        (Tiny(BackboneConfig(norm="batch")), r"Tiny cannot .*: its BatchNorm3d cannot be masked; .*norm = 'group'"),
        (Squeezed(), r"its Conv3d gives a map \(1, 1, 1\), smaller than the mask \(1, 2, 2\)"),
    ):
        with pytest.raises(PluginError, match=message):
            check_sparse(backbone, (8, 32, 32), (1, 2, 2))
    check_sparse(ToyBackbone(), SIZE, GRID)

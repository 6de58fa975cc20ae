"""Backbones whose weights others publish: their sizes, their layouts, and what they compute."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from timm.layers import RotaryEmbeddingCat
from timm.models.eva import EvaBlock
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model
from torchvision.models.video.swin_transformer import ShiftedWindowAttention3d

from ssl3d.backbone import Backbone
from ssl3d.errors import PluginError, WeightsError
from ssl3d.parts.stem import one_channel
from ssl3d.parts.tokens import rotary_positions
from ssl3d.train.build import backbone_class
from ssl3d.weights.load import load_weights
from ssl3d_plugins.backbones.medicalnet import MedicalNet18, MedicalNetConfig, _Padding
from ssl3d_plugins.backbones.primus import PrimusConfig, PrimusM
from ssl3d_plugins.backbones.resenc import ResEncL
from ssl3d_plugins.backbones.swin3d import Swin3DT, _Attention

# name: millions of parameters, floating-point tensors, some tensors of the published layout with their shapes
LAYOUTS = {
    "medicalnet_10": (14.4, 60, {"layer2.0.downsample.0.weight": (128, 64, 1, 1, 1)}),
    "medicalnet_18": (33.0, 85, {"layer4.1.bn2.running_var": (512,)}),
    "medicalnet_34": (63.3, 165, {"layer3.5.conv2.weight": (256, 256, 3, 3, 3)}),
    "medicalnet_50": (46.2, 265, {"layer1.0.downsample.1.running_mean": (256,)}),
    "s3d": (7.9, 385, {"features.15.branch1.1.1.0.weight": (384, 384, 3, 1, 1)}),
    "swin3d_t": (27.8, 171, {"features.6.1.attn.relative_position_bias_table": (15 * 13 * 13, 24)}),
    "mvit_v2_s": (34.2, 395, {"blocks.3.attn.rel_pos_h": (27, 96), "conv_proj.weight": (96, 1, 3, 7, 7)}),
    "resenc_l": (90.3, 224, {"stages.4.0.skip.1.conv.weight": (320, 256, 1, 1, 1)}),
    "primus_s": (26.1, 281, {"pos_embed": (1, 396, 20, 20, 20), "blocks.0.mlp.fc1_g.weight": (1056, 396)}),
    "primus_b": (97.3, 281, {"blocks.11.attn.k_proj.weight": (792, 792)}),
    "primus_m": (151.0, 373, {"blocks.15.gamma_2": (864,)}),
}  # fmt: skip


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_network_has_the_published_size_and_tensors(name: str) -> None:
    millions, count, some = LAYOUTS[name]
    kind = backbone_class(name)
    with torch.device("meta"):
        network = kind(kind.Config(norm="frozen"))
    state = {key: tuple(value.shape) for key, value in network.state_dict().items() if value.is_floating_point()}
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
    assert len(state) == count
    assert {key: state.get(key) for key in some} == some
    assert network.tokens == name.startswith("primus")


def test_one_channel_of_a_stem_is_the_stem_on_three_equal_channels() -> None:
    for bias in (True, False):
        conv, x = nn.Conv3d(3, 4, (2, 3, 3), (1, 2, 2), (0, 1, 1), bias=bias), noise(2, 1, 5, 6, 7)
        torch.testing.assert_close(one_channel(conv)(x), conv(x.expand(-1, 3, -1, -1, -1)))


def load(network: Backbone, name: str, state: dict[str, Tensor], path: Path) -> str:
    torch.save({"state_dict": state}, path)
    return load_weights(network, name, path)


class SmallMedicalNet(MedicalNet18):
    """One block per stage, with shortcuts of type A."""

    blocks = (1, 1, 1, 1)


@pytest.mark.parametrize(("dilated", "last"), [(True, [(3, 4, 2), (3, 4, 2)]), (False, [(2, 2, 1), (1, 1, 1)])])
def test_medicalnet_loads_its_segmentation_networks_dilated_or_not(
    dilated: bool, last: list[tuple[int, int, int]], tmp_path: Path
) -> None:
    config = MedicalNetConfig(norm="frozen", dilated=dilated)
    original, network = SmallMedicalNet(config).eval(), SmallMedicalNet(config).eval()
    state = {f"module.{key}": value for key, value in original.state_dict().items()}
    state["module.conv_seg.0.weight"] = torch.zeros(512, 32, 2, 2, 2)
    assert "(100%)" in load(network, "medicalnet", state, tmp_path / "resnet_18_23dataset.pth")
    x = noise(1, 1, 17, 25, 16)
    with torch.no_grad():
        assert torch.equal(network(x), original(x))
        assert [tuple(one.shape[2:]) for one in network.forward_features(x)] == [(5, 7, 4), (3, 4, 2), *last]


def test_a_shortcut_of_type_a_is_a_strided_pool_with_channels_of_zeros() -> None:
    x = noise(2, 3, 5, 6, 7)
    expected = torch.cat([F.avg_pool3d(x, 1, 2), torch.zeros(2, 2, 3, 3, 4)], dim=1)
    assert torch.equal(_Padding(5, 2)(x), expected)


def original_of(name: str) -> nn.Module:
    """torchvision's network without its classifier, for volumes of 9 x 40 x 46."""
    original = get_model(name).eval()
    if name == "s3d":
        original.avgpool, original.classifier = nn.AdaptiveAvgPool3d(1), nn.Identity()
        for part in original.modules():
            if isinstance(part, nn.BatchNorm3d):  # with its first statistics the signal fades away
                part.running_var.fill_(0.1)
    else:
        original.head = nn.Identity()
        original.pos_encoding.temporal_size, original.pos_encoding.spatial_size = 5, (10, 12)
    return original


@pytest.mark.parametrize("name", ["s3d", pytest.param("mvit_v2_s", marks=pytest.mark.slow)])
def test_a_loaded_network_is_torchvisions_of_the_grey_volume_three_times(name: str, tmp_path: Path) -> None:
    original, kind, x = original_of(name), backbone_class(name), noise(1, 1, 9, 40, 46)
    network = kind(kind.Config(norm="frozen")).eval()
    assert "(100%)" in load(network, "kinetics400", original.state_dict(), tmp_path / f"{name}.pth")
    with torch.no_grad():
        expected = original(x.expand(-1, 3, -1, -1, -1))
        torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.slow
def test_swin3d_is_torchvisions_network(tmp_path: Path) -> None:
    original, network = get_model("swin3d_t").eval(), Swin3DT().eval()
    assert "(100%)" in load(network, "kinetics400", original.state_dict(), tmp_path / "swin3d_t.pth")
    x = noise(1, 1, 17, 29, 33)  # 9 x 8 x 9 tokens: the first stage has whole windows
    with torch.no_grad():
        expected = original.features[0](original.patch_embed(x.expand(-1, 3, -1, -1, -1)))
        torch.testing.assert_close(network.forward_features(x)[0], expected.permute(0, 4, 1, 2, 3))


def test_small_windows_of_swin3d_have_the_positions_of_their_tokens() -> None:
    attention = _Attention(6, [8, 7, 7], [0, 0, 0], num_heads=3)
    whole, small = (attention.get_relative_position_bias(window) for window in ([8, 7, 7], [2, 3, 4]))
    assert torch.equal(whole, ShiftedWindowAttention3d.get_relative_position_bias(attention, [8, 7, 7]))
    first = whole.reshape(3, 8, 7, 7, 8, 7, 7)[:, :2, :3, :4, :2, :3, :4]
    assert torch.equal(small[0], first.reshape(3, 24, 24))


def test_swinunetr_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai.networks.nets.swin_unetr", None)
    with pytest.raises(PluginError, match=r"needs MONAI, an extra: pip install 'ssl3d\[monai\]'"):
        backbone_class("swinunetr")()


@pytest.mark.skipif(find_spec("monai") is None, reason="MONAI, an extra, is not installed")
def test_swinunetr_loads_pretext_weights_with_their_names_of_mlp_layers(tmp_path: Path) -> None:
    network = backbone_class("swinunetr")()
    state = network.get_submodule("model").state_dict()
    state = {f"module.{key.replace('.linear', '.fc')}": value for key, value in state.items()}
    state["module.rotation_head.weight"] = torch.zeros(4, 768)
    assert "118 of 118" in load(network, "ct_ssl", state, tmp_path / "model_swinvit.pt")


class SmallResEnc(ResEncL):
    """Narrow and shallow."""

    widths, blocks = (4, 4, 8, 8, 12, 12), (1, 2, 1, 1, 1, 1)


def test_resenc_loads_the_encoder_of_a_published_unet(tmp_path: Path) -> None:
    original, network = SmallResEnc().eval(), SmallResEnc().eval()
    state = {}
    for key, value in original.state_dict().items():
        top, _, rest = key.partition(".")
        number, _, below = rest.partition(".")
        name = f"stem.convs.0.{rest}" if top == "stem" else f"stages.{number}.blocks.{below}"
        twice = name.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")
        state |= {f"encoder.{one}": value for one in (name, twice)}
        state[f"decoder.encoder.{name}"] = torch.zeros_like(value)
    assert "encoder.stem.convs.0.all_modules.0.weight" in state
    assert "encoder.stages.1.blocks.0.skip.0.conv.weight" not in state  # the width stays: pooled, and not projected
    assert "encoder.stages.2.blocks.0.skip.1.all_modules.0.weight" in state
    assert "(100%)" in load(network, "openmind_mae", state, tmp_path / "resenc.pth")
    for size in ((8, 64, 64), (33, 65, 67)):
        x = noise(1, 1, *size)
        with torch.no_grad():
            assert torch.equal(network(x), original(x))
            halves = [tuple(-(-side // 2**n) for side in size) for n in range(6)]
            assert [tuple(one.shape[2:]) for one in network.forward_features(x)] == halves


class SmallPrimus(PrimusM):
    """Four narrow blocks."""

    depth, width, heads = 4, 36, 3


class PublishedPrimus(nn.Module):
    """The encoder as nnssl pretrains it: timm's blocks and rotations, patches in the order of H, D, W."""

    def __init__(self, grid: tuple[int, int, int]) -> None:
        super().__init__()
        d, h, w = grid
        options = {"qkv_fused": False, "swiglu_mlp": True, "scale_mlp": True, "scale_attn_inner": True}
        self.down_projection = nn.ModuleDict({"proj": nn.Conv3d(1, 36, 8, 8)})
        self.eva = nn.Module()
        self.eva.pos_embed = nn.Parameter(torch.randn(1, d * h * w, 36))
        blocks = [EvaBlock(36, 3, mlp_ratio=8 / 3, num_prefix_tokens=0, init_values=0.5, **options) for _ in range(4)]
        self.eva.blocks, self.eva.norm = nn.ModuleList(blocks), nn.LayerNorm(36)
        self.rope = RotaryEmbeddingCat(8, in_pixels=False, feat_shape=None)
        self.order = [h, d, w]

    def forward(self, x: Tensor) -> Tensor:
        maps = self.down_projection["proj"](x)  # (B, F, d, h, w)
        tokens = maps.permute(0, 3, 2, 4, 1).flatten(1, 3) + self.eva.pos_embed
        for block in self.eva.blocks:
            tokens = block(tokens, rope=self.rope.get_embed(self.order))
        d, h, w = maps.shape[2:]
        return self.eva.norm(tokens).reshape(-1, h, d, w, 36).transpose(1, 2).flatten(1, 3)


def test_primus_is_the_published_network(tmp_path: Path) -> None:
    grid = (2, 3, 4)
    original, network = PublishedPrimus(grid).eval(), SmallPrimus(PrimusConfig(grid=grid)).eval()
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.copy_(parameter * 2 + 0.1 * torch.randn(parameter.shape))
    state = {**original.state_dict(), "up_projection.weight": torch.zeros(2), "decoder.norm.weight": torch.ones(36)}
    assert "(100%)" in load(network, "openmind_mae", state, tmp_path / "primus.pth")
    x = noise(2, 1, 16, 24, 32)
    with torch.no_grad():
        torch.testing.assert_close(network.forward_tokens(x).patches, original(x), rtol=1e-4, atol=1e-4)
        assert network(noise(1, 1, 9, 8, 20)).shape == (1, 36)  # positions of another grid are interpolated


def test_primus_of_another_grid_or_width_does_not_match(tmp_path: Path) -> None:
    state = PublishedPrimus((2, 3, 4)).state_dict()
    with pytest.raises(WeightsError, match="0 of"):
        load(PrimusNarrow(PrimusConfig(grid=(1, 2, 2))), "openmind_mae", state, tmp_path / "primus.pth")


class PrimusNarrow(SmallPrimus):
    """As wide as no published network."""

    width = 18


def test_kept_and_masked_tokens_of_primus() -> None:
    network, x = SmallPrimus(PrimusConfig(grid=(2, 2, 3))).eval(), noise(2, 1, 15, 16, 20)
    every = torch.arange(12).expand(2, -1)
    with torch.no_grad():
        tokens = network.forward_tokens(x).patches
        torch.testing.assert_close(
            network.forward_tokens(x, keep=every.flip(1)).patches.flip(1), tokens, rtol=1e-4, atol=1e-5
        )
        keep = torch.tensor([[4, 0], [1, 3]])  # patches that are not the last of their row
        alone = network.forward_tokens(x, keep=keep).patches
        assert torch.equal(network.forward_tokens(x + (torch.arange(20) >= 16), keep=keep).patches, alone)
        mask, token = torch.ones(2, 12, dtype=torch.bool), noise(36)
        hidden = network.forward_tokens(x, mask=mask, mask_token=token).patches
        assert torch.equal(
            hidden, network.forward_tokens(noise(2, 1, 15, 16, 20) + 1, mask=mask, mask_token=token).patches
        )


def test_rotated_products_depend_on_the_difference_of_positions_alone() -> None:
    grid, width = (3, 4, 5), 14  # two features that do not turn
    sines, cosines = rotary_positions(grid, width, noise(1).double()).chunk(2, dim=1)
    query, key = noise(width).double(), noise(2, width)[1].double()

    def turned(x: Tensor) -> Tensor:
        across = torch.stack([-x[1::2], x[::2]], dim=1).flatten()
        return (x * cosines + across * sines).reshape(*grid, width)  # at every position

    products = torch.einsum("dhwf,pqrf->dhwpqr", turned(query), turned(key))
    torch.testing.assert_close(products[0, 1, 2, 1, 3, 2], products[1, 0, 4, 2, 2, 4], rtol=1e-6, atol=1e-6)
    assert len(products[0, 0, 0].flatten().round(decimals=6).unique()) == 60
    assert torch.equal(turned(query)[..., -2:], query[-2:].expand(*grid, 2))

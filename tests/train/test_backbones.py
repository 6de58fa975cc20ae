"""Every first-party backbone, at its smallest size and a little above it."""

from __future__ import annotations

import copy
from importlib.util import find_spec

import pytest
import timm
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ssl3d import registry
from ssl3d.backbone import Backbone
from ssl3d.card import Card
from ssl3d.errors import PluginError
from ssl3d_plugins.backbones.mvit import _resample

FIRST_PARTY = [name for name, p in registry.plugins("backbones").items() if p.target.startswith("ssl3d_plugins.")]
TIMM = ["timm/test_resnet", "timm/test_vit", "timm/test_convnext", "timm/test_efficientnet"]
CONTROLS = {"voxel_grid", "volume_statistics"}  # no networks: nothing is random, and no paper describes them
SAME_NETWORK = {  # as x3d_xs, vit3d_tiny, medicalnet_10 and primus_s, of other weights, widths or depths
    "x3d_s", "x3d_m", "vit3d_small", "vit3d_base", "medicalnet_34", "medicalnet_50", "primus_b", "primus_m",
}  # fmt: skip
LARGE = {"swin3d_t", "mvit_v2_s", "resenc_l", "primus_s", "medicalnet_18", "swinunetr"}
EVERY = [name for name in FIRST_PARTY if name not in {"timm", *CONTROLS, *SAME_NETWORK}] + TIMM
INSTANCE_OR_LAYER_NORM = {"mvit_v2_s", "swin3d_t", "resenc_l", "primus_s", "swinunetr"}
WITHOUT_BATCH_NORM = {"mvit_base_16x4", "vit3d_tiny", "timm/test_vit", "timm/test_convnext", *INSTANCE_OR_LAYER_NORM}
WITH_BATCH_NORM = [name for name in EVERY if name not in WITHOUT_BATCH_NORM and name not in LARGE]
POOL_THE_COARSEST_MAP = ["tiny", "r3d_18", "mc3_18", "r2plus1d_18", "slow_r50", "c2d_r50", "i3d_r50", "r2plus1d_r50"]

WITHOUT_MONAI = pytest.mark.skipif(find_spec("monai") is None, reason="MONAI, an extra, is not installed")


def marks(name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] * (name in LARGE) + [WITHOUT_MONAI] * (name == "swinunetr")


every = pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in EVERY])


def build(name: str, norm: str = "auto", seed: int = 0, **settings: object) -> Backbone:
    """A backbone by name; residual branches that start at zero are opened, so that everything takes part."""
    family, variant = registry.split_variant("backbones", name)
    kind = registry.load("backbones", family)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = kind(kind.Config(norm=norm, **settings), variant)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if not parameter.any():
                parameter.fill_(0.1)
    return backbone


def volumes(backbone: Backbone, count: int = 2, more: tuple[int, int, int] = (0, 0, 0)) -> Tensor:
    size = [least + extra for least, extra in zip(backbone.min_size, more, strict=True)]
    return torch.randn(count, 1, *size, generator=torch.Generator().manual_seed(1))


@every
def test_features_have_the_stated_width_at_the_smallest_and_at_odd_sizes(name: str) -> None:
    backbone = build(name).eval()
    for more in [(0, 0, 0), (1, 3, 5)]:
        x = volumes(backbone, more=more)
        with torch.no_grad():
            assert backbone(x).shape == (2, backbone.embed_dim)


@every
def test_feature_maps_are_five_dimensional_and_get_no_finer(name: str) -> None:
    backbone = build(name).eval()
    with torch.no_grad():
        maps = backbone.forward_features(volumes(backbone, more=(1, 3, 5)))
    assert all(m.ndim == 5 and len(m) == 2 for m in maps)
    voxels = [m.shape[2:].numel() for m in maps]
    assert voxels == sorted(voxels, reverse=True)


@pytest.mark.parametrize("name", POOL_THE_COARSEST_MAP)
def test_features_are_the_mean_of_the_coarsest_map(name: str) -> None:
    backbone = build(name).eval()
    x = volumes(backbone, more=(1, 3, 5))
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), backbone.forward_features(x)[-1].mean(dim=(2, 3, 4)))


@every
def test_gradients_reach_every_parameter(name: str) -> None:
    backbone = build(name)
    backbone(volumes(backbone, more=(1, 3, 5))).square().sum().backward()
    trained = {key: p for key, p in backbone.named_parameters() if p.requires_grad}
    unreached = [key for key, p in trained.items() if p.grad is None or not p.grad.any()]
    assert unreached == []


@every
def test_under_group_norm_features_do_not_depend_on_the_neighbours(name: str) -> None:
    backbone = build(name, "group").double()
    x = volumes(backbone).double()
    with torch.no_grad():
        together, alone = backbone(x), backbone(x[:1])
    assert together.std() > 1e-6
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-12)


@every
def test_frozen_statistics_neither_move_nor_depend_on_the_mode(name: str) -> None:
    backbone = build(name, "frozen")
    x = volumes(backbone)
    before = copy.deepcopy(backbone.state_dict())
    with torch.no_grad():
        training, evaluation = backbone.train()(x), backbone.eval()(x)
    assert torch.equal(training, evaluation)
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("name", WITH_BATCH_NORM)
def test_batch_norm_is_kept_when_asked_for_and_gone_otherwise(name: str) -> None:
    kinds = {norm: any(isinstance(m, _BatchNorm) for m in build(name, norm).modules()) for norm in ("batch", "auto")}
    assert kinds == {"batch": True, "auto": False}


@every
def test_a_state_dict_makes_another_instance_the_same_and_a_copy_is_one(name: str) -> None:
    backbone, other = build(name).eval(), build(name, seed=1).eval()
    x = volumes(backbone, count=1)
    with torch.no_grad():
        assert not torch.equal(backbone(x), other(x))
        other.load_state_dict(backbone.state_dict())
        assert torch.equal(backbone(x), other(x))
        assert torch.equal(backbone(x), copy.deepcopy(backbone)(x))


@every
def test_a_forward_pass_draws_no_random_numbers_and_leaves_its_input(name: str) -> None:
    backbone = build(name).train()
    x, state = volumes(backbone, count=1), torch.get_rng_state()
    before = x.clone()
    with torch.no_grad():
        backbone(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", [name for name in FIRST_PARTY if name not in CONTROLS])
def test_a_card_says_what_it_is_and_where_to_read_of_it(name: str) -> None:
    card: Card = registry.load("backbones", name).card
    assert card.name
    assert card.summary
    assert card.year is not None
    assert card.link is not None
    assert card.link.startswith("https://")


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_slices_are_pooled_as_asked_and_their_order_does_not_matter(pool: str) -> None:
    backbone = build("timm/test_vit", pool=pool).eval()
    x = volumes(backbone, more=(4, 0, 0))
    with torch.no_grad():
        apart = torch.stack([backbone(x[:, :, [k]]) for k in range(5)], dim=1)  # (B, D, F)
        expected = apart.mean(dim=1) if pool == "mean" else apart.amax(dim=1)
        torch.testing.assert_close(backbone(x), expected)
        torch.testing.assert_close(backbone(x.flip(2)), expected)


@pytest.mark.parametrize("name", ["timm/mixer_s32_224", "timm/dla46x_c"])  # one size; multiples of 32
def test_a_model_that_does_not_take_every_size_gets_its_slices_resized(name: str) -> None:
    backbone = build(name).eval()
    with torch.no_grad():
        assert backbone(torch.randn(1, 1, 2, 40, 51)).shape == (1, backbone.embed_dim)


def test_a_model_that_timm_cannot_build_for_grey_images_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise TypeError("unexpected keyword argument 'in_chans'\nand more")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(PluginError, match=r"cannot build .*\(unexpected keyword argument 'in_chans'\); choose another"):
        build("timm/test_vit")


def test_a_model_without_features_of_slices_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: torch.nn.Conv2d(1, 4, 3))
    with pytest.raises(PluginError, match="gives no features of a grey image of 160 x 160 pixels"):
        build("timm/test_vit")


@pytest.mark.parametrize(
    ("name", "said"),
    [("timm", "needs the name"), ("timm/resnet_18", "nearest"), ("timm/resnet18.none", "resnet18.a1_in1k")],
)
def test_a_model_that_timm_has_not_is_refused_with_what_it_has(name: str, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        build(name)


def test_resampling_position_encodings_to_their_own_size_changes_nothing() -> None:
    assert torch.equal(_resample(torch.zeros(1), 8, 8), torch.eye(8))


def test_resampling_position_encodings_keeps_what_is_linear() -> None:
    line = torch.linspace(0, 1, 56)
    resampled = _resample(line, 56, 14) @ line
    torch.testing.assert_close(resampled.diff(), torch.full((13,), 4 / 55))


def test_the_stem_of_tiny_keeps_every_slice() -> None:
    backbone = build("tiny")
    first = backbone.forward_features(volumes(backbone, more=(3, 0, 0)))[0]
    assert first.shape[2] == backbone.min_size[0] + 3

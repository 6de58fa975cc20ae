"""Encoders in plain torchvision and timm: the same features, or a refusal."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import ssl3d
from ssl3d import registry
from ssl3d.backbone import Backbone
from ssl3d.errors import WeightsError
from tests.weights.test_pretrained import grey, unlike_the_start


def encoder(name: str, norm: str) -> Backbone:
    family, variant = registry.split_variant("backbones", name)
    kind = registry.load("backbones", family)
    backbone = kind(kind.Config(norm=norm), variant)
    unlike_the_start(backbone)
    return backbone.eval()


def features(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network.eval()(x)


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_torchvision_loads_an_encoder_and_gives_the_same_features(norm: str) -> None:
    ours, plain = encoder("r3d_18", norm), torchvision.models.video.r3d_18()
    plain.fc = nn.Identity()
    plain.load_state_dict(ssl3d.portable_state(ours))
    x = grey(8, 32, 40)
    torch.testing.assert_close(features(plain, x.expand(-1, 3, -1, -1, -1)), features(ours, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("model", "channels"), [("test_resnet", 3), ("test_vit", 3), ("test_vit", 1)])
def test_timm_loads_an_encoder_and_gives_the_same_features(model: str, channels: int) -> None:
    ours = encoder(f"timm/{model}", "batch")
    plain = timm.create_model(model, num_classes=0, in_chans=channels)
    plain.load_state_dict(ssl3d.portable_state(ours, channels=channels))
    x = grey(1, 160, 160)
    expected = features(plain, x[:, :, 0].expand(-1, channels, -1, -1))
    torch.testing.assert_close(features(ours, x), expected, rtol=1e-4, atol=1e-5)


def test_the_tensors_are_copies() -> None:
    ours = encoder("r3d_18", "batch")
    ssl3d.portable_state(ours, channels=1)["stem.0.weight"].zero_()
    assert ours.state_dict()["stem.0.weight"].any()


def test_group_norm_in_place_of_batch_norm_is_refused() -> None:
    with pytest.raises(WeightsError, match="this R3D-18 has group norm and weight standardisation in place of"):
        ssl3d.portable_state(encoder("r3d_18", "group"))

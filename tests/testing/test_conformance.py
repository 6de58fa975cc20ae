"""Every plugin of our own keeps its contract."""

from __future__ import annotations

import pytest

from ssl3d import registry
from ssl3d.testing import assert_backbone, assert_method

QUICK = {"tiny", "r3d_18", "timm/test_vit", "timm/test_resnet"}
TIMM = ["timm/test_vit", "timm/test_resnet", "timm/test_convnext", "timm/test_efficientnet"]


def first_party(kind: registry.Kind) -> list[str]:
    return [name for name, plugin in registry.plugins(kind).items() if plugin.target.startswith("ssl3d_plugins.")]


@pytest.mark.parametrize("name", first_party("methods"))
def test_a_method_keeps_its_contract(name: str) -> None:
    assert_method(name)


BACKBONES = [name for name in first_party("backbones") if name != "timm"] + TIMM


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in BACKBONES]
)
def test_a_backbone_keeps_its_contract(name: str) -> None:
    assert_backbone(name)

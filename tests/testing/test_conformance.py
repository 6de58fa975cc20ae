"""Every plugin of our own keeps its contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssl3d import registry
from ssl3d.testing import assert_backbone, assert_dataset, assert_method, assert_protocol

QUICK = {"tiny", "vit3d_tiny", "timm/test_vit"}
TIMM = ["timm/test_vit", "timm/test_resnet", "timm/test_convnext", "timm/test_efficientnet"]


def first_party(kind: registry.Kind) -> list[str]:
    return [name for name, plugin in registry.plugins(kind).items() if plugin.distribution == "ssl3d"]


@pytest.mark.parametrize("name", first_party("methods"))
def test_a_method_keeps_its_contract(name: str) -> None:
    assert_method(name)


BACKBONES = [name for name in first_party("backbones") if name != "timm"] + TIMM


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in BACKBONES]
)
def test_a_backbone_keeps_its_contract(name: str) -> None:
    assert_backbone(name)


@pytest.mark.parametrize("name", first_party("protocols"))
def test_a_protocol_keeps_its_contract(name: str) -> None:
    assert_protocol(name)


@pytest.mark.parametrize("plane", ["sagittal", "axial"])
def test_the_demo_keeps_its_contract(plane: str) -> None:
    assert_dataset("demo", plane=plane)


def test_mrnet_keeps_its_contract(mrnet_root: Path) -> None:
    assert_dataset("mrnet", root=mrnet_root)


def test_a_folder_keeps_its_contract(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["path,patient,tear,grade:ordinal(mild<severe),volume:regression(mm3),split"]
    for number in range(8):
        np.save(tmp_path / f"{number}.npy", rng.random((4 + number % 2, 9, 8)).astype(np.float32))
        split = "train" if number < 5 else "test"
        grade = "mild" if number % 3 else "severe"
        lines.append(f"{number}.npy,p{number},{number % 2},{grade},{number + 0.5},{split}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    assert_dataset("folder", root=tmp_path)


def test_medmnist_keeps_its_contract(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 6), ("val", 2), ("test", 4)):
        arrays[f"{split}_images"] = rng.integers(256, size=(count, 28, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 2)[:, None].astype(np.uint8)
    np.savez(tmp_path / "adrenalmnist3d.npz", **arrays)
    assert_dataset("medmnist3d:adrenalmnist3d", root=tmp_path)

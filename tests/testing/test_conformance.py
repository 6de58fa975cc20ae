"""Every plugin of our own keeps its contract."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from ssl3d import registry
from ssl3d.testing import assert_backbone, assert_dataset, assert_method, assert_protocol

QUICK = {"tiny", "vit3d_tiny", "timm/test_vit"}
TIMM = ["timm/test_vit", "timm/test_resnet", "timm/test_convnext", "timm/test_efficientnet"]


def first_party(kind: registry.Kind) -> list[str]:
    return [name for name, plugin in registry.plugins(kind).items() if plugin.distribution == "ssl3d"]


def test_importing_all_plugins_at_once_leaves_no_trace() -> None:
    """What the kit finds out for one plugin in a process of its own, for all of them in one."""
    targets = {plugin.target.partition(":")[0] for kind in registry.KINDS for plugin in registry.plugins(kind).values()}
    code = """
import importlib, json, sys
import ssl3d.testing.imported as imported
modules, first = json.load(sys.stdin)
for name in first:  # what libraries do when they are imported is not the plugins' doing
    importlib.import_module(name)
before, loaded = imported.settings(), set(sys.modules)
for name in modules:
    importlib.import_module(name)
after = imported.settings()
print(json.dumps([[name for name in before if before[name] != after[name]], sorted(set(sys.modules) - loaded)]))
"""

    def changed(first: list[str]) -> tuple[list[str], list[str]]:
        given = json.dumps([sorted(targets), first])
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, input=given, check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        (line,) = done.stdout.splitlines()  # nothing else is printed
        changes, loaded = json.loads(line)
        return changes, [name for name in loaded if not name.startswith("ssl3d")]

    changes, libraries = changed(["torch._dynamo", "sklearn.linear_model"])
    if changes:
        changes, _ = changed(["torch._dynamo", "sklearn.linear_model", *libraries])
    assert changes == []


@pytest.mark.parametrize("name", first_party("methods"))
def test_a_method_keeps_its_contract(name: str) -> None:
    assert_method(name)


BACKBONES = [name for name in first_party("backbones") if name != "timm"] + TIMM


WITHOUT_MONAI = pytest.mark.skipif(find_spec("monai") is None, reason="MONAI, an extra, is not installed")


def marks(name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] * (name not in QUICK) + [WITHOUT_MONAI] * (name == "swinunetr")


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in BACKBONES])
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

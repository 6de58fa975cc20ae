"""Somebody else's plugin package of two files: installed, listed, checked, benched; how broken ones are reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "third_party"
OFFLINE = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]


def ssl3d(*arguments: object, path: Path, code: int = 0) -> str:
    """Run the command line with the packages under ``path`` installed besides; return what it printed."""
    command = [sys.executable, "-m", "ssl3d", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=path)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def listed(path: Path) -> dict[str, dict[str, str]]:
    """The methods that are listed, by name."""
    return {row["name"]: row for row in json.loads(ssl3d("list", "--kind", "methods", "--json", path=path))}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", *OFFLINE, "--target", folder, PACKAGE]
    done = subprocess.run(pip, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def claim(folder: Path, distribution: str, **methods: str) -> None:
    """Install a distribution that does nothing but register methods."""
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    points = "\n".join(f"{name} = {target}" for name, target in methods.items())
    info.joinpath("entry_points.txt").write_text(f"[ssl3d.methods]\n{points}\n")


def test_it_is_two_files() -> None:
    files = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert files == {"pyproject.toml", "ssl3d_simsiam.py"}


def test_an_installed_plugin_is_listed_with_its_distribution_and_keeps_the_contract(installed: Path) -> None:
    row = listed(installed)["my_simsiam"]
    assert (row["distribution"], row["problem"]) == ("ssl3d-simsiam", None)
    assert "stopped gradient" in row["summary"]
    printed = ssl3d("check", "my_simsiam", path=installed)
    assert "check_splits_agree: ok" in printed
    assert "made small for the check: projection_dim = 48 (default 2048), hidden_dim = 48 (default 512)" in printed
    assert "FAILED" not in printed


@pytest.mark.slow
def test_an_installed_plugin_is_benched(installed: Path, tmp_path: Path) -> None:
    ssl3d("data", "demo", "--out", tmp_path / "volumes", "--size", 24, "--train", 12, "--valid", 8, path=installed)
    short = ["--epochs", 1, "--batch-size", 6, "--protocols", "knn", "--controls=none", "--seeds=0", "--quiet"]
    small = ["--set", "view_size=[4, 16, 16]", "--set", "method.my_simsiam.projection_dim=32"]
    data = ["--data", "mrnet", "--root", tmp_path / "volumes", "--task", "acl", "--plane", "sagittal"]
    line = ["bench", "--methods", "my_simsiam", *data, *short, *small, "--out", tmp_path / "run"]
    printed = ssl3d(*line, path=installed)
    assert "simsiam" in printed


def test_a_broken_plugin_is_listed_as_broken_with_the_reason_and_disturbs_no_other(tmp_path: Path) -> None:
    claim(tmp_path, "ssl3d-broken", absent="no_such_module:Method", faulty="faulty:Faulty", simclr="faulty:SimCLR")
    (tmp_path / "faulty.py").write_text("raise OSError('a library is missing')\n")
    rows = listed(tmp_path)
    assert "no_such_module" in rows["absent"]["problem"]
    assert "a library is missing" in rows["faulty"]["problem"]
    assert "ssl3d-broken (faulty:SimCLR)" in rows["simclr"]["problem"]
    assert "ssl3d_plugins.methods.simclr:SimCLR" in rows["simclr"]["problem"]
    assert rows["byol"]["problem"] is None

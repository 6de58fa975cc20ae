"""Somebody else's plugin package of two files: installed, listed, checked, benched; and how broken ones are told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssl3d.cli import run
from ssl3d.data.sets.demo import write_demo

PACKAGE = Path(__file__).parent / "third_party"
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


def test_an_installed_plugin_is_listed_with_its_distribution(installed: Path) -> None:
    row = listed(installed)["simsiam"]
    assert (row["distribution"], row["problem"]) == ("ssl3d-simsiam", None)
    assert "stopped gradient" in row["summary"]


def test_an_installed_plugin_keeps_the_contract(installed: Path) -> None:
    printed = ssl3d("check", "simsiam", "--set", "projection_dim=64", path=installed)
    assert "check_splits_agree: ok" in printed
    assert "FAILED" not in printed


def test_an_installed_plugin_is_benched(installed: Path, tmp_path: Path) -> None:
    write_demo(tmp_path / "volumes", size=24, cases=(12, 8), slices=(5, 9))
    short = ["--epochs", 1, "--batch-size", 6, "--protocols", "knn", "--no-baselines", "--quiet"]
    small = ["--set", "view_size=[4, 16, 16]", "--set", "method.simsiam.projection_dim=32"]
    data = ["--data", "mrnet", "--root", tmp_path / "volumes", "--task", "acl", "--plane", "sagittal"]
    printed = ssl3d("bench", "--methods", "simsiam", *data, *short, *small, "--out", tmp_path / "run", path=installed)
    assert "| simsiam |" in printed


def test_a_broken_plugin_is_listed_as_broken_with_the_reason_and_disturbs_no_other(tmp_path: Path) -> None:
    claim(tmp_path, "ssl3d-broken", absent="no_such_module:Method", faulty="faulty:Faulty")
    (tmp_path / "faulty.py").write_text("raise OSError('a library is missing')\n")
    rows = listed(tmp_path)
    assert "no_such_module" in rows["absent"]["problem"]
    assert "a library is missing" in rows["faulty"]["problem"]
    assert rows["simclr"]["problem"] is None


def test_two_claims_to_one_name_are_told_with_both_sides(tmp_path: Path) -> None:
    claim(tmp_path, "ssl3d-clash", simclr="faulty:SimCLR")
    rows = listed(tmp_path)
    assert "ssl3d-clash (faulty:SimCLR)" in rows["simclr"]["problem"]
    assert "ssl3d_plugins.methods.simclr:SimCLR" in rows["simclr"]["problem"]
    assert rows["byol"]["problem"] is None
    assert "claimed by" in ssl3d("check", "simclr", path=tmp_path, code=2)


def test_a_file_needs_no_package_and_a_rule_that_fails_is_an_exit_code_of_one(tmp_path: Path) -> None:
    sound = (PACKAGE / "ssl3d_simsiam.py").read_text()
    (tmp_path / "mine.py").write_text(sound.replace("(features) for features", "(features[1:]) for features"))
    printed = ssl3d("check", "mine.py:SimSiam", "--set", "projection_dim=32", path=tmp_path, code=1)
    assert "check_a_short_batch_is_finite: FAILED" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["byoll"], "did you mean 'byol'"),
        (["tiny", "--set", "norm=batch"], "leave the settings out"),
        (["timm"], "timm"),
        (["byol", "--set", "momentum"], "key=value"),
        (["byol", "--set", "momentum=2"], "less than or equal to 1"),
        (["byol", "--expect", "check_crad=typo"], "did you mean 'check_card'"),
        (["nowhere.py:Method"], "no such file"),
        (["ssl3d.recipe:Recipe"], "no subclass"),
    ],
)
def test_what_cannot_be_checked_is_bad_input(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", *arguments]) == 2
    assert said in capsys.readouterr().err

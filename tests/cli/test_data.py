"""The commands that check, pack and generate data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssl3d.cli import run
from ssl3d.data.sets.demo import write_demo

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def knees(tmp_path: Path) -> Path:
    write_demo(tmp_path / "knees", size=18, cases=(5, 4), slices=(4, 6))
    return tmp_path / "knees"


def test_the_command_checks_one_plane_or_all(capsys: Capture, knees: Path) -> None:
    assert run(["data", "check", "--data", "mrnet", "--root", str(knees), "--plane", "coronal"]) == 0
    output = capsys.readouterr().out
    assert "mrnet (synthetic) coronal: 9 volumes (train 5, test 4)\n" in output
    assert "patients: unknown, every exam is taken for one\n" in output
    assert output.endswith("mrnet (synthetic) coronal: no faults.\n")
    assert run(["data", "check", "--data", "mrnet", "--root", str(knees), "--plane", "all"]) == 0
    output = capsys.readouterr().out
    assert [line.split()[2] for line in output.splitlines() if "no faults" in line] == [
        "sagittal:", "coronal:", "axial:",
    ]  # fmt: skip


def test_the_command_lists_every_fault_and_exits_with_1(capsys: Capture, knees: Path) -> None:
    (knees / "train/sagittal/0002.npy").write_bytes(b"")
    np.save(knees / "valid/sagittal/0007.npy", np.zeros((4, 18, 18), np.uint8))
    assert run(["data", "check", "--data", "mrnet", "--root", str(knees)]) == 1
    captured = capsys.readouterr()
    assert [line.split(" ")[0] for line in captured.out.splitlines()[:2]] == [
        "train/sagittal/0002.npy", "valid/sagittal/0007.npy",
    ]  # fmt: skip
    assert "mrnet (synthetic) sagittal: 2 faults." in captured.err


def test_the_command_takes_folds(capsys: Capture, knees: Path) -> None:
    assert run(["data", "check", "--data", "mrnet", "--root", str(knees), "--folds", "9"]) == 1
    assert "choose fewer --folds" in capsys.readouterr().out


def test_packing_into_a_cache_and_again_reads_nothing_twice(capsys: Capture, knees: Path, tmp_path: Path) -> None:
    arguments = [
        "data",
        "pack",
        "--data",
        "mrnet",
        "--root",
        str(knees),
        "--plane",
        "axial",
        "--cache",
        str(tmp_path / "c"),
    ]
    assert run(arguments) == 0
    first = capsys.readouterr().out
    (manifest,) = (tmp_path / "c").rglob("manifest.json")
    assert f"{manifest.parent}: 9 volumes, 0.0 MB, fingerprint " in first
    written = manifest.stat().st_mtime_ns
    assert run(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == first.splitlines()[-1]
    assert manifest.stat().st_mtime_ns == written


def test_the_demo_is_written_once(capsys: Capture, tmp_path: Path) -> None:
    arguments = ["data", "demo", "--out", str(tmp_path / "demo"), "--size", "18", "--train", "5", "--valid", "4"]
    assert run(arguments) == 0
    assert "5 + 4 synthetic exams; try: ssl3d bench --data mrnet" in capsys.readouterr().out
    assert run(arguments) == 2
    assert "is not empty" in capsys.readouterr().err

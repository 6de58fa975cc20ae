"""Bad input of ``ssl3d bench``: one sentence and exit code 2, before anything is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch

from ssl3d.cli import run
from tests.runs import arguments, write_knees

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees")


@pytest.fixture
def data(knees: Path, tmp_path: Path) -> Path:
    """A copy of the volumes, to be damaged."""
    return Path(shutil.copytree(knees, tmp_path / "knees"))


def refused(capsys: Capture, *line: str) -> str:
    """Return the sentence with which a command line is refused: exit code 2, one line, nothing else."""
    assert run(list(line)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("Error: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err + captured.out
    return captured.err


# Weights

KINETICS: dict[str, Any] = {"view_size": [8, 32, 32], "evaluate.protocols": ["knn"], "controls": "none"}


def test_weights_that_cannot_be_downloaded_fail_their_encoder_and_say_where_to_put_the_file(
    capsys: Capture, knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setenv("SSL3D_WEIGHTS", str(tmp_path / "weights"))
    line = arguments(knees, tmp_path / "run", "--backbones=r3d_18", "--quiet", methods="kinetics,random", **KINETICS)
    assert run(line) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("failed: kinetics on r3d_18, seed 0: cannot download")
    assert f"put it at {tmp_path}/weights/r3d_18-b3b3357e.pth" in captured.err
    assert captured.err.count("\n") == 1
    assert "| random |" in captured.out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.pth", None, "none.pth; give the path"),
        ("text.pth", b"not weights", "text.pth is damaged or holds no weights"),
        ("half.safetensors", b"\x08\x00\x00", "half.safetensors is damaged or holds no weights"),
        ("code.pth", {"model_state": Path("x")}, "code.pth holds Python objects, and reading them would run code"),
        ("other.pth", {"fc.weight": torch.zeros(3)}, "matched 0 of 60 tensors (0%)"),
        ("batch.pth", {"bn1.running_mean": torch.zeros(3)}, "set the backbone's norm to frozen or batch"),
    ],
)
@pytest.mark.parametrize("option", ["--init={}", "--methods=pretrained:{}"])
def test_a_bad_file_of_weights_is_refused(
    capsys: Capture, knees: Path, tmp_path: Path, name: str, content: Any, message: str, option: str
) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / name)
    more = {"backbone.r3d_18.norm": "group"} if name == "batch.pth" else {}
    line = arguments(knees, tmp_path / "run", "--backbones=r3d_18", **KINETICS, **more)
    assert message in refused(capsys, *line, option.format(tmp_path / name))
    assert not (tmp_path / "run").exists()


# Bad input


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--methods=boyl"], "unknown method 'boyl'; did you mean 'byol'?"),
        (["--backbones=tinny"], "unknown backbone 'tinny'; did you mean 'tiny'?"),
        (["--set=data.name=mrnett"], "unknown data set 'mrnett'; did you mean 'mrnet'?"),
        (["--task=acll"], "has no task 'acll'; did you mean 'acl'?"),
        (["--plane=saggital"], "has no plane 'saggital'; did you mean 'sagittal'?"),
        (["--protocols=liner"], "unknown protocol 'liner'; did you mean 'linear'?"),
        (["--set=pretrain.lrr=1"], "unknown field 'pretrain.lrr'; did you mean 'pretrain.lr'?"),
        (["--set=batch_size=2"], "field 'batch_size' could be pretrain.batch_size or evaluate.batch_size"),
        (["--set=crop=[2,3]"], "augment.crop.0 = 2: input should be less than or equal to 1"),
        (["--set=method.byol.momentum=1.5"], "method.byol.momentum = 1.5: input should be less than or equal to 1"),
        (["--epochs=0", "--set=pretrain.epochs=0"], "pretrain.epochs = 0: input should be greater than or equal to 1"),
        (["--micro-batch=8"], "micro_batch = 8 is larger than batch_size = 4"),
        (["--precision=8-bit"], "pretrain.precision = '8-bit': input should be '32-true'"),
        (["--device=tpu"], "unknown device 'tpu'"),
        (["--recipe=none.toml"], "none.toml cannot be read (No such file or directory)"),
        (["--out=/proc/run"], "/proc/run cannot be written ("),
        (["--set=view_size=[1,2]"], "view_size"),
        (["--corpus=mrnett"], "unknown data set 'mrnett'; did you mean 'mrnet'?"),
        (["--root=demo=x"], "--root demo=x: no data set of this run has this name; known: mrnet"),
        (["--methods=kinetics"], "method 'kinetics' starts from kinetics400 weights, and backbone 'tiny' has none"),
    ],
)
def test_bad_settings_are_one_sentence(
    capsys: Capture, knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments(knees, tmp_path / "run"), *more)
    assert list(tmp_path.iterdir()) == []


def rewrite(name: str, change: Callable[[str], str]) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text(change((root / name).read_text()))


def save(name: str, array: np.ndarray, **options: Any) -> Callable[[Path], object]:
    return lambda root: np.save(root / name, array, **options)


VOLUME = "train/sagittal/0003.npy"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "knees is not a folder; expected is MRNet-v1.0"),
        (lambda root: shutil.rmtree(root / "valid/sagittal"), "valid/sagittal is missing"),
        (lambda root: (root / "train-acl.csv").unlink(), "train-acl.csv is missing"),
        (rewrite("train-acl.csv", lambda text: "case,label\n" + text), "train-acl.csv row 1: 'case,label' is a header"),
        (rewrite("train-acl.csv", lambda text: text.replace("0002,1", "0002,7")), "train-acl.csv row 3: label '7'"),
        (
            rewrite("train-acl.csv", lambda text: text + "0002,1\n"),
            "train-acl.csv row 13: case 0002 is listed in row 3 already",
        ),
        (
            rewrite("valid-acl.csv", lambda text: text + "0999,1\n"),
            "valid-acl.csv row 9 (case 0999): the case is missing from",
        ),
        (lambda root: (root / VOLUME).unlink(), f"train-acl.csv row 4 ({VOLUME}): the volume is absent"),
        (
            save("train/sagittal/0777.npy", np.ones((4, 18, 18), np.uint8)),
            "train/sagittal/0777.npy: no train-*.csv lists it",
        ),
        (lambda root: os.truncate(root / VOLUME, 500), f"{VOLUME} is truncated: 500 bytes"),
        (save(VOLUME, np.ones((18, 18), np.uint8)), f"{VOLUME} has shape (18, 18)"),
        (save(VOLUME, np.ones((4, 18, 18), np.float32)), f"{VOLUME} holds float32"),
        (save(VOLUME, np.ones((0, 18, 18), np.uint8)), f"{VOLUME} is empty"),
        (save(VOLUME, np.full((4, 18, 18), 3, np.uint8)), f"{VOLUME} is constant"),
        (save(VOLUME, np.array([{}], dtype=object), allow_pickle=True), f"{VOLUME} holds pickled Python objects"),
    ],
)
def test_bad_data_are_one_sentence_that_names_file_and_row(
    capsys: Capture, data: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(data)
    assert message in refused(capsys, *arguments(data, tmp_path / "run"), "--quiet")
    assert not list(tmp_path.glob("run/*.csv"))
    assert not list(tmp_path.glob("run/e*/*"))
    if (tmp_path / "run").exists():
        assert "has no result yet" in refused(capsys, "leaderboard", str(tmp_path / "run"))


def test_nan_in_a_folder_of_volumes_is_one_sentence(capsys: Capture, tmp_path: Path) -> None:
    root = tmp_path / "volumes"
    root.mkdir()
    rows = ["path,tear,split"]
    for number in range(6):
        volume = np.random.default_rng(number).random((4, 7, 9), np.float32)
        volume[1, 2, 3] = np.nan if number == 4 else 0.5
        np.save(root / f"{number}.npy", volume)
        rows.append(f"{number}.npy,{number % 2},{'test' if number > 3 else 'train'}")
    (root / "labels.csv").write_text("\n".join(rows))
    changes = {"data.name": "folder", "data.task": "tear"}
    message = refused(capsys, *arguments(root, tmp_path / "run", **changes), "--quiet")
    assert "4.npy (labels.csv row 6) holds NaN or infinity in 1 of 252 voxels" in message

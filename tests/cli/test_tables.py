"""Every command: what it prints and returns; bad input is one sentence and exit code 2."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import torch

from ssl3d.cli import COMMANDS, run
from ssl3d.cli.progress import JsonProgress, LineProgress, words
from ssl3d.registry import KINDS, plugins
from ssl3d.tables.leaderboard import CELL_COLUMNS, COLUMNS
from ssl3d.tables.typed import read_table
from tests.cells import cell
from tests.pages import write_run
from tests.runs import arguments, small_run, write_knees

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees")


@pytest.fixture(scope="module")
def finished(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of simclr and the random baseline."""
    return small_run(knees, tmp_path_factory.mktemp("runs") / "finished", methods=("simclr",)).folder


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


# Help


def test_every_command_has_help(capsys: Capture) -> None:
    assert run(["--help"]) == 0
    top = capsys.readouterr().out
    for command, (_, line) in COMMANDS.items():
        assert command in top
        assert line in top
        assert run([command, "--help"]) == 0
        assert "Usage: ssl3d" in capsys.readouterr().out
    for command in ("check", "pack", "demo"):
        assert run(["data", command, "--help"]) == 0


def test_help_and_lists_load_neither_torch_nor_pandas() -> None:
    lines = [["--help"], *([command, "--help"] for command in COMMANDS), ["list"], ["bench", "--set", "lrr=1"]]
    code = (
        "import sys, contextlib, io\nfrom ssl3d.cli import run\n"
        f"with contextlib.redirect_stdout(io.StringIO()):\n    [run(line) for line in {lines!r}]\n"
        "print([name for name in ('torch', 'pandas', 'sklearn', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr.startswith("Error: unknown field 'lrr'")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["bnech"], "No such command 'bnech'; did you mean 'bench'?"),
        (["bench", "--epochs", "abc"], "'abc' is not a valid integer"),
        (["bench", "--seeds", "1,x"], "'1,x' is not a list of whole numbers"),
        (["bench", "--methods", ","], "needs at least one name"),
        (["bench", "--epoch", "3"], "No such option"),
        (["leaderboard"], "Missing argument 'RUN'"),
        (["leaderboard", "run", "--format", "xls"], "'xls' is not one of"),
        (["compare"], "Missing argument"),
    ],
)
def test_a_faulty_command_line_shows_the_usage(capsys: Capture, line: list[str], message: str) -> None:
    assert run(line) == 2
    assert message in capsys.readouterr().err


# list, show


def test_list_shows_every_plugin_with_a_line_and_its_distribution(capsys: Capture) -> None:
    assert run(["list"]) == 0
    out = capsys.readouterr().out
    for kind in KINDS:
        assert kind in out
        for name in plugins(kind):
            assert name in out
    assert "broken" not in out


@pytest.mark.parametrize("kind", KINDS)
def test_list_gives_json_of_one_kind(capsys: Capture, kind: Any) -> None:
    assert run(["list", "--json", "--kind", kind]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(plugins(kind))
    assert all(row["summary"] and row["distribution"] == "ssl3d" and row["problem"] is None for row in rows)


@pytest.mark.parametrize(
    "name", [*plugins("methods"), "tiny", "r3d_18", "x3d_s", "timm/resnet18", *plugins("datasets")]
)
def test_show_prints_the_card(capsys: Capture, name: str) -> None:
    assert run(["show", name]) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 2


def test_show_prints_settings_with_default_bounds_and_meaning(capsys: Capture) -> None:
    assert run(["show", "moco"]) == 0
    out = capsys.readouterr().out
    for text in ("method.moco", "queue_size", "65536", ">= 1", "momentum", "0.999", ">= 0, <= 1", "temperature"):
        assert text in out
    assert run(["show", "byolmed3d"]) == 0
    assert "pretrain.accumulation = plain" in capsys.readouterr().out


def test_show_takes_a_file(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("from ssl3d_plugins.methods.byol import BYOL\nclass Mine(BYOL): ...\n")
    assert run(["show", f"{tmp_path}/m.py:Mine"]) == 0
    assert "BYOL" in capsys.readouterr().out


# Tables


@pytest.mark.parametrize("form", ["table", "md", "csv", "latex"])
def test_leaderboard_prints_every_form(capsys: Capture, finished: Path, form: str) -> None:
    assert run(["leaderboard", str(finished), "--format", form]) == 0
    out = capsys.readouterr().out
    assert "simclr" in out
    assert "random" in out
    if form == "csv":
        assert out.strip() == (finished / "leaderboard.csv").read_text().strip()
    if form in {"md", "table"}:
        assert out.strip() == (finished / "leaderboard.md").read_text().strip()
    if form == "latex":
        assert out.count("\\begin{tabular}") == out.count("\\end{tabular}") == 2  # the price, too


def test_compare_prints_every_pair(capsys: Capture, finished: Path) -> None:
    assert run(["compare", str(finished)]) == 0
    out = capsys.readouterr().out
    assert out.count("simclr") >= 2
    assert "p (Holm)" in out


def test_compare_names_the_backbone_where_there_are_several(capsys: Capture, tmp_path: Path) -> None:
    pair = [cell("byol"), cell("byol", noise=1, recipe={"backbone": "r3d_18"}), cell("simclr", noise=2)]
    assert run(["compare", str(write_run(tmp_path / "run", pair))]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("byol on tiny", "byol on r3d_18", "simclr on tiny"))
    assert "(" not in out.replace("p (Holm)", "")  # the backbone tells them apart, no hash is needed


def test_compare_takes_runs_on_the_same_data_and_refuses_others(
    capsys: Capture, finished: Path, knees: Path, tmp_path: Path
) -> None:
    same = small_run(knees, tmp_path / "same", methods=("random",), seeds=(1,), baselines=False).folder
    assert run(["compare", str(finished), str(same)]) == 0
    capsys.readouterr()
    other = small_run(knees, tmp_path / "other", methods=("random",), data__task="meniscus").folder
    assert "cannot be compared: task differs" in refused(capsys, "compare", str(finished), str(other))


def test_export_writes_one_row_a_cell_and_one_row_a_pair(capsys: Capture, finished: Path, tmp_path: Path) -> None:
    assert run(["export", str(finished), "--to", str(tmp_path / "new/cells.csv")]) == 0
    assert "4 rows" in capsys.readouterr().out
    table = read_table(tmp_path / "new/cells.csv", CELL_COLUMNS)
    assert len(table) == 2 * 2
    assert set(table["method"]) == {"simclr", "random"}
    assert len(pd.read_csv(tmp_path / "new/cells-pairs.csv")) == 2
    assert run(["export", str(finished), "--to", str(tmp_path / "c.csv"), "--pairs", str(tmp_path / "p.csv")]) == 0
    assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "new/cells-pairs.csv").read_bytes()


@pytest.mark.parametrize("command", ["leaderboard", "compare", "export"])
def test_tables_of_what_is_no_run_are_refused(capsys: Capture, tmp_path: Path, command: str) -> None:
    more = ["--to", str(tmp_path / "x.csv")] if command == "export" else []
    assert "is not a run folder" in refused(capsys, command, str(tmp_path / "none"), *more)
    (tmp_path / "plan.json").write_text("{}")
    assert "has no result yet" in refused(capsys, command, str(tmp_path), *more)
    assert not (tmp_path / "x.csv").exists()


def test_a_table_of_an_edited_result_is_refused(capsys: Capture, finished: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "run"))
    path = next(copy.glob("cells/simclr-*/result.json"))
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    assert f"{path} was changed after it was written" in refused(capsys, "leaderboard", str(copy))


# bench


def test_json_lines_are_json_to_the_last(capsys: Capture, knees: Path, tmp_path: Path) -> None:
    assert run([*arguments(knees, tmp_path / "run"), "--json"]) == 0
    events = [json.loads(line, parse_constant=pytest.fail) for line in capsys.readouterr().out.splitlines()]
    kinds = [event["event"] for event in events]
    assert (kinds.count("run"), kinds[-1]) == (1, "leaderboard")
    assert kinds.count("cell") == kinds.count("cell finished") == len(events[kinds.index("run")]["cells"]) == 2
    steps = [event for event in events if event["event"] == "progress" and "loss" in event]
    assert [step["done"] for step in steps] == list(range(1, 7))
    assert {"loss", "volumes/s", "epoch", "epochs"} <= steps[0].keys()
    rows = events[-1]["rows"]
    assert {(row["method"], row["protocol"]) for row in rows} == {
        (m, p) for m in ("byol", "random") for p in ("linear", "knn")
    }
    assert set(rows[0]) == set(COLUMNS)


def test_quiet_prints_the_leaderboard_only(capsys: Capture, knees: Path, finished: Path) -> None:
    assert run([*arguments(knees, finished, methods="simclr"), "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith((finished / "leaderboard.md").read_text())
    assert captured.err == ""


def test_plain_lines_name_the_folder_and_every_cell(capsys: Capture, knees: Path, finished: Path) -> None:
    assert run(arguments(knees, finished, methods="simclr")) == 0
    out = capsys.readouterr().out
    assert f"2 cells, written to {finished}" in out
    assert out.count("done before") == 2
    assert "\x1b" not in out


@pytest.mark.parametrize("more", [[], ["--json"], ["--quiet"]])
def test_a_dry_run_prints_the_cells_and_writes_nothing(
    capsys: Capture, knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = [*arguments(knees, tmp_path / "run", methods="byol"), "--dry-run", *more]
    before = sorted(knees.rglob("*"))
    assert run(line) == 0
    out = capsys.readouterr().out
    assert "byol-tiny-s0-" in out
    assert "random-tiny-s0-" in out
    assert list(tmp_path.iterdir()) == []
    assert sorted(knees.rglob("*")) == before
    if "--json" in more:
        cells = {cell["method"]: cell for cell in json.loads(out)["cells"]}
        assert (cells["byol"]["steps"], cells["random"]["steps"], cells["random"]["note"]) == (6, 0, "judged only")
        assert cells["byol"]["tflop"] > 0
        assert cells["byol"]["minutes"] > 0


def test_a_dry_run_prices_done_cells_at_nothing(capsys: Capture, knees: Path, finished: Path) -> None:
    assert run([*arguments(knees, finished, methods="simclr"), "--dry-run", "--json"]) == 0
    assert {cell["note"] for cell in json.loads(capsys.readouterr().out)["cells"]} == {"has a result"}


def test_a_dry_run_finds_bad_input_too(capsys: Capture, knees: Path, tmp_path: Path) -> None:
    line = [*arguments(knees, tmp_path / "run", methods="random"), "--dry-run"]
    assert "unknown device 'gpu'" in refused(capsys, *line, "--device=gpu")
    assert "no cell of this run starts from" in refused(capsys, *line, "--weights=none.pth")
    assert "none is not a folder" in refused(capsys, *line, f"--root={tmp_path}/none")


def test_options_and_the_default_folder(knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same line writes into the same folder, whatever the working directory's other runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.toml").write_text('methods = ["random"]\nview_size = [4, 16, 17]\n[evaluate]\ninner_folds = 2\n')
    line = ["bench", "--recipe=r.toml", "--data=mrnet", f"--root={knees}", "--task=meniscus", "--plane=axial"]
    line += ["--seeds=0,1", "--protocols=knn", "--device=cpu", f"--store={tmp_path}/store", "--quiet"]
    assert run(line) == run(line) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("mrnet-")
    assert not (folder / "store").exists()
    board = pd.read_csv(folder / "leaderboard.csv")
    assert board[["task", "plane", "protocol", "seeds"]].to_numpy().tolist() == [["meniscus", "axial", "knn", 2]]


def test_a_failed_cell_is_listed_and_the_exit_code_is_1(capsys: Capture, knees: Path, tmp_path: Path) -> None:
    text = "class Bad(SimCLR):\n    def views(self, volumes, rng):\n        1 / 0\n"
    (tmp_path / "bad.py").write_text("from ssl3d_plugins.methods.simclr import SimCLR\n" + text)
    assert run([*arguments(knees, tmp_path / "run", "--quiet", methods=f"{tmp_path}/bad.py:Bad")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("failed: Bad-tiny-s0-")
    assert captured.err.rstrip().endswith("division by zero (traceback: error.txt in the cell's folder)")
    assert "random" in captured.out


# Weights

KINETICS: dict[str, Any] = {"view_size": [8, 32, 32], "evaluate.protocols": ["knn"], "baselines": False}


def test_weights_that_cannot_be_downloaded_fail_their_cell_and_say_where_to_put_the_file(
    capsys: Capture, knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setenv("SSL3D_WEIGHTS", str(tmp_path / "weights"))
    line = arguments(knees, tmp_path / "run", "--backbones=r3d_18", "--quiet", methods="kinetics,random", **KINETICS)
    assert run(line) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("failed: kinetics-r3d_18-")
    assert f"put it at {tmp_path}/weights/r3d_18-b3b3357e.pth" in captured.err
    assert captured.err.count("\n") == 1
    assert "| random |" in captured.out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.pth", None, "none.pth; give the path"),
        ("text.pth", b"not weights", "text.pth is damaged or holds no weights"),
        ("half.safetensors", b"\x08\x00\x00", "half.safetensors is damaged or holds no weights"),
        ("other.pth", {"fc.weight": torch.zeros(3)}, "matched 0 of 100 tensors (0%)"),
    ],
)
def test_a_bad_file_of_weights_is_refused(
    capsys: Capture, knees: Path, tmp_path: Path, name: str, content: Any, message: str
) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / name)
    line = arguments(knees, tmp_path / "run", "--backbones=r3d_18", methods="kinetics", **KINETICS)
    assert message in refused(capsys, *line, f"--weights={tmp_path / name}")
    assert not (tmp_path / "run").exists()


# Bad input


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--methods=boyl"], "unknown method 'boyl'; did you mean 'byol'?"),
        (["--backbones=tinny"], "unknown backbone 'tinny'; did you mean 'tiny'?"),
        (["--set=data.name=mrnett"], "unknown dataset 'mrnett'; did you mean 'mrnet'?"),
        (["--task=acll"], "has no task 'acll'; did you mean 'acl'?"),
        (["--plane=saggital"], "has no plane 'saggital'; did you mean 'sagittal'?"),
        (["--protocols=liner"], "evaluate.protocols.0 = 'liner': input should be 'linear', 'knn' or 'finetune'"),
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
        (rewrite("train-acl.csv", lambda text: text + "0002,1\n"), "train-acl.csv row 13: case 0002 stands in row 3"),
        (rewrite("valid-acl.csv", lambda text: text + "0999,1\n"), "valid-acl.csv row 9: case 0999"),
        (lambda root: (root / VOLUME).unlink(), f"train-acl.csv row 4: case 0003 has no volume {VOLUME}"),
        (save("train/sagittal/0777.npy", np.ones((4, 18, 18), np.uint8)), "train/sagittal/0777.npy is listed in no"),
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
    assert not list(tmp_path.glob("run/cells/*"))
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


# Progress


def test_figures_are_words() -> None:
    assert (
        words({"epoch": 3, "epochs": 30, "loss": 1.23456, "volumes/s": 210.0})
        == "epoch 3/30, loss 1.235, volumes/s 210"
    )
    assert words({"of": 3}) == ""


def test_json_has_no_nan_nor_infinity() -> None:
    out = io.StringIO()
    JsonProgress(out).advance(3, {"loss": float("nan"), "auc": float("inf"), "x": 1.0})
    assert json.loads(out.getvalue(), parse_constant=pytest.fail) == {
        "event": "progress", "done": 3, "loss": None, "auc": None, "x": 1.0,
    }  # fmt: skip


def test_lines_come_now_and_then_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 10.0, 11.0])
    monkeypatch.setattr("ssl3d.cli.progress.time.monotonic", lambda: next(clock))
    out = io.StringIO()
    lines = LineProgress(out)
    lines.phase("byol-tiny-s0-abc", "pretraining", 40, "steps", 10)
    for done in (11, 20, 21):
        lines.advance(done, {"loss": 0.5})
    assert out.getvalue() == "  byol-tiny-s0 pretraining: 20/40, loss 0.5, 20 s left\n"


def test_a_reader_that_stops_reading_is_no_traceback() -> None:
    line = f"{sys.executable} -m ssl3d list | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["/bin/bash", "-c", line], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_a_dry_run_in_double_precision_is_priced(capsys: Capture, knees: Path, tmp_path: Path) -> None:
    assert run([*arguments(knees, tmp_path / "run", "--dry-run", "--precision=64-true")]) == 0
    assert "Nothing was run" in capsys.readouterr().out

"""The main job from end to end on the smallest files: tables, encoders, interruption, the same from Python."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import ssl3d
from ssl3d.cli import run as command
from ssl3d.data.store import Store
from ssl3d.errors import RunError
from ssl3d.evaluate.features import extract
from ssl3d.evaluate.protocols.linear import Linear
from ssl3d.protocol import FeatureProblem
from ssl3d.results.model import EncoderRecord, EvaluationRecord
from ssl3d.results.read import read_plan
from ssl3d.results.records import read_record
from ssl3d.tables.columns import read_table
from ssl3d.tables.leaderboard import COLUMNS
from tests.runs import (
    SMALL,
    Listener,
    arguments,
    encoder_folder,
    evaluation_folder,
    left_behind,
    small_run,
    write_knees,
)

Capture = pytest.CaptureFixture[str]
STEPS = 24  # 8 epochs of 12 volumes in windows of 4
LONG = {"pretrain.epochs": 8}
CPU = torch.device("cpu")
CONTROLS = ("random", "voxels", "statistics")  # that stand in every table
KILLER = """
import json, os, signal, sys, time
from pathlib import Path
import ssl3d.api, ssl3d.tables.write, ssl3d.tables.tables  # before the forks: a child must not wait for imports
from ssl3d.cli.progress import JsonProgress
from ssl3d.run.options import Options
from ssl3d.train.build import backbone_class, method_class

names = "byol", "moco", "random", "kinetics", "simclr", "voxels", "statistics"
loaded = [method_class(name) for name in names], backbone_class("tiny")
root, out = map(Path, sys.argv[1:3])
methods, settings, moments = map(json.loads, sys.argv[3:6])
for lines, seconds in moments:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        options = Options(roots={"": root}, out=out, device="cpu", checkpoint_seconds=0.0)
        progress = JsonProgress(os.fdopen(writer, "w"))
        ssl3d.api.bench(methods, settings=settings, options=options, progress=progress)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        for _ in zip(range(lines), told):
            pass
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees")


@pytest.fixture(scope="module")
def finished(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unbroken run of byol, moco and the random baseline."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    assert command([*arguments(knees, out, "--quiet", methods="byol,moco", **LONG)]) == 0
    return out


def events(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """JSON lines of a process as they come."""
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


# Tables


def test_a_run_ends_in_tables_of_every_method_and_protocol(finished: Path) -> None:
    board = read_table(finished / "leaderboard.csv", COLUMNS)
    assert set(zip(board["method"], board["protocol"], strict=True)) == {
        (method, protocol) for method in ("byol", "moco", *CONTROLS) for protocol in ("linear", "knn")
    }
    assert ((board["ci_low"] <= board["auc"]) & (board["auc"] <= board["ci_high"])).all()
    assert set(board.query("method == 'byol'")["exactness"]) == {"exact"}
    assert set(board.query("method == 'random'")["exactness"]) == {"not trained"}
    pairs = pd.read_csv(finished / "comparisons.csv")
    assert len(pairs) == 2 * 10  # of five methods
    assert "byol" in (finished / "leaderboard.md").read_text()


@pytest.mark.parametrize("protocol", ["linear", "knn"])
def test_predictions_hold_every_test_case_once(finished: Path, knees: Path, protocol: str) -> None:
    rows = pd.read_csv(evaluation_folder(finished, "byol", protocol) / "predictions.csv", dtype={"case": str})
    labels = pd.read_csv(knees / "valid-acl.csv", header=None, names=["case", "label"], dtype={"case": str})
    rows = rows.sort_values("case")
    assert rows[["case", "label"]].to_numpy().tolist() == labels.sort_values("case").to_numpy().tolist()
    np.testing.assert_allclose(rows["p_0"] + rows["p_1"], 1.0, atol=1e-12)


def test_pretraining_sees_the_training_volumes_alone_and_logs_every_epoch(finished: Path) -> None:
    folder = encoder_folder(finished, "moco")
    log = pd.read_csv(folder / "log.csv")
    assert list(log["epoch"]) == list(range(1, 9))
    assert log["step"].iloc[-1] == STEPS
    assert np.isfinite(log.to_numpy()).all()
    found = read_record(folder, EncoderRecord)
    assert found.corpus is not None
    assert (found.corpus.volumes, found.exactness, found.labels_used) == (12, "exact", False)
    assert found.price.flops is not None
    assert found.price.flops > 0


def test_fine_tuning_and_a_method_from_a_file_run_through_the_same_door(knees: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from ssl3d_plugins.methods.simclr import SimCLR\nclass Mine(SimCLR): ...\n")
    settings = {"evaluate.protocols": ["finetune"], "protocol.finetune.epochs": 1, "pretrain.epochs": 1}
    methods = f"{tmp_path}/mine.py:Mine"
    assert command([*arguments(knees, tmp_path / "run", "--quiet", methods=methods, **settings)]) == 0
    board = read_table(tmp_path / "run/leaderboard.csv", COLUMNS)
    assert set(board["method"]) == {methods, *CONTROLS}
    assert (board["status"] == "done").all()
    assert ssl3d.load_encoder(encoder_folder(tmp_path / "run", "Mine"), allow_code=True).embed_dim == 128
    assert not (tmp_path / "run/features").exists()


def test_the_demo_is_called_synthetic_in_the_output_and_in_every_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ["--set=view_size=[4,16,16]", "--set=evaluate.inner_folds=2", "--protocols=knn", "--device=cpu"]
    few = ["--methods=random", "--controls=voxels", "--seeds=0"]
    assert command(["bench", *few, f"--out={tmp_path}/run", *sets]) == 0
    assert capsys.readouterr().out.count("synthetic") >= 2
    assert pd.read_csv(tmp_path / "run/leaderboard.csv")["synthetic"].all()
    assert pd.read_csv(tmp_path / "run/evaluations.csv")["synthetic"].all()
    assert "synthetic" in (tmp_path / "run/leaderboard.md").read_text()


# Interruption


def test_ctrl_c_exits_130_and_the_same_line_goes_on_to_the_same_numbers(
    knees: Path, finished: Path, tmp_path: Path
) -> None:
    line = arguments(knees, tmp_path / "run", methods="byol,moco", **LONG)
    started = [sys.executable, "-m", "ssl3d", *line, "--json"]
    with subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for event in events(process):
            if event["event"] == "progress" and event["done"] >= 9 and "loss" in event:
                process.send_signal(signal.SIGINT)
                break
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.split("\n")[-2] == "Interrupted. The same command goes on from here."
    assert "Traceback" not in errors
    assert (encoder_folder(tmp_path / "run", "byol") / "checkpoint.pt").exists()
    assert not list(tmp_path.glob("run/e*/**/e*.json"))
    assert command([*line, "--quiet"]) == 0
    assert left_behind(tmp_path / "run") == left_behind(finished)


def kill_and_go_on(knees: Path, out: Path, times: int) -> None:
    """Kill a run again and again, at random moments after random lines of its progress; then let it end."""
    draws = random.Random(0)  # noqa: S311  # moments, not secrets
    moments = [(draws.randrange(3, 30), draws.uniform(0, 0.05)) for _ in range(times)]
    values = [json.dumps(value) for value in (["byol", "moco"], {**SMALL, **LONG}, moments)]
    subprocess.run([sys.executable, "-c", KILLER, str(knees), str(out), *values], check=True, timeout=300)
    assert list(out.glob("encoders/*/*"))
    assert command([*arguments(knees, out, "--quiet", methods="byol,moco", **LONG)]) == 0


def test_a_run_killed_at_random_moments_ends_in_the_same_numbers(knees: Path, finished: Path, tmp_path: Path) -> None:
    kill_and_go_on(knees, tmp_path / "run", 2)
    assert left_behind(tmp_path / "run") == left_behind(finished)


@pytest.mark.slow
def test_a_run_killed_forty_times_ends_in_the_same_numbers(knees: Path, finished: Path, tmp_path: Path) -> None:
    kill_and_go_on(knees, tmp_path / "run", 40)
    assert left_behind(tmp_path / "run") == left_behind(finished)


# The command line


def test_json_lines_are_json_to_the_last(capsys: Capture, knees: Path, tmp_path: Path) -> None:
    assert command([*arguments(knees, tmp_path / "run"), "--json"]) == 0
    found = [json.loads(line, parse_constant=pytest.fail) for line in capsys.readouterr().out.splitlines()]
    kinds = [event["event"] for event in found]
    assert (kinds.count("run"), kinds[-1]) == (1, "leaderboard")
    assert kinds.count("started") == kinds.count("finished") == len(found[kinds.index("run")]["artifacts"]) == 4 * 4
    steps = [event for event in found if event["event"] == "progress" and "loss" in event]
    assert [step["done"] for step in steps] == list(range(1, 7))
    assert {"loss", "volumes/s", "epoch", "epochs"} <= steps[0].keys()
    rows = found[-1]["rows"]
    assert {(row["method"], row["protocol"]) for row in rows} == {
        (m, p) for m in ("byol", *CONTROLS) for p in ("linear", "knn")
    }
    assert set(rows[0]) == set(COLUMNS)


def test_quiet_prints_the_leaderboard_only(capsys: Capture, knees: Path, finished: Path) -> None:
    assert command([*arguments(knees, finished, methods="byol,moco", **LONG), "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith((finished / "leaderboard.md").read_text())
    assert captured.err == ""


def test_plain_lines_name_the_folder_and_what_is_made(capsys: Capture, knees: Path, tmp_path: Path) -> None:
    line = arguments(knees, tmp_path / "run", methods="random")
    assert command(line) == 0
    out = capsys.readouterr().out
    assert f"12 artifacts, written to {tmp_path / 'run'}" in out
    assert "  random on tiny, seed 0: acl of mrnet sagittal, linear: auc 0." in out
    assert "\x1b" not in out
    assert command(line) == 0
    assert "random on tiny, seed 0: acl" not in capsys.readouterr().out


@pytest.mark.parametrize("more", [[], ["--json"], ["--quiet"]])
def test_a_dry_run_prints_the_encoders_and_writes_nothing(
    capsys: Capture, knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = [*arguments(knees, tmp_path / "run", methods="byol"), "--dry-run", *more]
    before = sorted(knees.rglob("*"))
    assert command(line) == 0
    out = capsys.readouterr().out
    assert "byol on tiny, seed 0, pretrained on mrnet sagittal" in out
    assert "random on tiny, seed 0" in out
    assert list(tmp_path.iterdir()) == []
    assert sorted(knees.rglob("*")) == before
    if "--json" in more:
        rows = {row["method"]: row for row in json.loads(out)["encoders"]}
        assert (rows["byol"]["steps"], rows["random"]["steps"], rows["random"]["note"]) == (6, 0, "evaluated only")
        assert rows["byol"]["tflop"] > 0
        assert rows["byol"]["minutes"] > 0
    else:
        assert "byol: momentum = " in out


def test_a_dry_run_prices_complete_encoders_at_nothing(capsys: Capture, knees: Path, finished: Path) -> None:
    assert command([*arguments(knees, finished, methods="byol,moco", **LONG), "--dry-run", "--json"]) == 0
    assert {row["note"] for row in json.loads(capsys.readouterr().out)["encoders"]} == {"complete"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--device=gpu", "unknown device 'gpu'"),
        ("--init=none.pth", "none of random trains an encoder that could start from it"),
        ("--root=mrnet=none", "none is not a folder"),
    ],
)
def test_a_dry_run_finds_bad_input_too(capsys: Capture, knees: Path, tmp_path: Path, more: str, message: str) -> None:
    line = [*arguments(knees, tmp_path / "run", methods="random"), "--dry-run", more]
    assert command(line) == 2
    assert message in capsys.readouterr().err


def test_options_and_the_default_folder(knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same line writes into the same folder, whatever the working directory's other runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.toml").write_text('methods = ["random"]\nview_size = [4, 16, 17]\n[evaluate]\ninner_folds = 2\n')
    line = ["bench", "--recipe=r.toml", "--data=mrnet", f"--root={knees}", "--task=meniscus", "--plane=axial"]
    line += [
        "--seeds=0-1",
        "--protocols=knn",
        "--controls=voxels,statistics",
        "--device=cpu",
        f"--cache={tmp_path}/cache",
        "--quiet",
    ]
    assert command(line) == command(line) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("mrnet-")
    assert not (folder / "stores").exists()
    board = pd.read_csv(folder / "leaderboard.csv")
    rows = board[["task", "plane", "protocol", "seeds"]].to_numpy().tolist()
    assert rows == [["meniscus", "axial", "knn", 2]] * 3  # with the controls that need no network


def test_a_failed_encoder_is_listed_and_the_exit_code_is_1(capsys: Capture, knees: Path, tmp_path: Path) -> None:
    text = "class Bad(SimCLR):\n    def views(self, volumes, rng):\n        1 / 0\n"
    (tmp_path / "bad.py").write_text("from ssl3d_plugins.methods.simclr import SimCLR\n" + text)
    assert command([*arguments(knees, tmp_path / "run", "--quiet", methods=f"{tmp_path}/bad.py:Bad")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("failed: Bad on tiny, seed 0, pretrained on mrnet sagittal: ZeroDivisionError")
    assert captured.err.rstrip().endswith("division by zero (traceback: error.txt in the artifact's folder)")
    assert "random" in captured.out


def test_a_dry_run_in_double_precision_is_priced(capsys: Capture, knees: Path, tmp_path: Path) -> None:
    assert command([*arguments(knees, tmp_path / "run", "--dry-run", "--precision=64-true")]) == 0
    assert "Nothing was run" in capsys.readouterr().out


# From Python


def api(knees: Path, out: Path, **changes: Any) -> pd.DataFrame:
    settings = {name: value for name, value in {**SMALL, **LONG}.items() if name != "data.name"}
    return ssl3d.bench(
        methods=["byol", "moco"], data="mrnet", settings=settings, root=knees, out=out, device="cpu", **changes
    )


def test_bench_returns_the_leaderboard_that_it_wrote_and_trains_nothing_twice(finished: Path, knees: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*.safetensors")}
    for _ in range(2):
        listener = Listener()
        board = api(knees, finished, progress=listener)
        assert listener.started_list == []
        pd.testing.assert_frame_equal(board, read_table(finished / "leaderboard.csv", COLUMNS), check_exact=True)
    assert {path: path.read_bytes() for path in finished.rglob("*.safetensors")} == before


@pytest.mark.parametrize("method", ["byol", "random"])
def test_a_loaded_encoder_gives_the_features_that_were_evaluated(finished: Path, method: str) -> None:
    """Features of the loaded encoder, probed again, give the predictions in the file."""
    folder = evaluation_folder(finished, method)
    encoder = ssl3d.load_encoder(folder)
    assert not encoder.training
    same = ssl3d.load_encoder(encoder_folder(finished, method)).state_dict()
    assert all(torch.equal(value, same[name]) for name, value in encoder.state_dict().items())
    found = read_record(folder, EvaluationRecord)
    (store,) = (Store.open(Path(path)) for path in read_plan(finished).stores.values())
    train, test = (store.labelled(split, "acl") for split in ("train", "test"))
    train_x, test_x = (
        extract(encoder, store, part, size=found.recipe.view_size, batch_size=16, device=CPU)[found.readout]
        for part in (train, test)
    )
    patients = np.array(store.patients(train))
    problem = FeatureProblem(train_x, store.targets("acl", train), test_x, store.task("acl"), patients, folds=2, seed=0)
    again = Linear().predict(problem)
    table = pd.read_csv(folder / "predictions.csv")
    np.testing.assert_allclose(again.probabilities[:, 1], table["p_1"], rtol=1e-4)  # other batches, other rounding


def test_loading_an_encoder_says_what_is_missing(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"encoder\.json cannot be read \(No such file"):
        ssl3d.load_encoder(tmp_path)
    with pytest.raises(RunError, match="is a run; name one of its encoders"):
        ssl3d.load_encoder(finished)
    folder = encoder_folder(finished, "byol")
    (tmp_path / "encoder.json").write_bytes((folder / "encoder.json").read_bytes())
    with pytest.raises(RunError, match=r"encoder\.safetensors cannot be read"):
        ssl3d.load_encoder(tmp_path)
    (tmp_path / "encoder.safetensors").write_bytes((folder / "encoder.safetensors").read_bytes()[:-8])
    with pytest.raises(RunError, match=r"encoder\.safetensors was changed or cut short"):
        ssl3d.load_encoder(tmp_path)


def drawn_by_numpy() -> str:
    """State of numpy's global generator."""
    return hashlib.sha256(pickle.dumps(np.random.get_state())).hexdigest()


def test_a_run_leaves_the_global_generators_alone(knees: Path, tmp_path: Path) -> None:
    before = random.getstate(), drawn_by_numpy(), torch.get_rng_state()  # watched
    settings = {**SMALL, "pretrain.epochs": 1, "evaluate.protocols": ["linear", "knn", "finetune"]}
    settings["protocol.finetune.epochs"] = 1
    ssl3d.bench(["simclr"], settings=settings, root=knees, out=tmp_path / "run", device="cpu")
    after = random.getstate(), drawn_by_numpy(), torch.get_rng_state()  # watched
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


def test_an_encoder_whose_backbone_was_edited_is_not_loaded(knees: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from ssl3d_plugins.backbones.tiny import Tiny\nclass Mine(Tiny):\n    x = 1\n")
    run = small_run(knees, tmp_path / "run", ("random",), backbones=(f"{file}:Mine",), controls="none").folder
    (folder,) = (run / "encoders").iterdir()
    with pytest.raises(RunError, match=r"names code .*SHA-256 [0-9a-f]{16}\); read it, and allow it with allow_code"):
        ssl3d.load_encoder(folder)
    assert ssl3d.load_encoder(folder, allow_code=True).embed_dim == 128
    file.write_text(file.read_text().replace("x = 1", "x = 2"))
    with pytest.raises(RunError, match=r"has changed since the encoder in .* was made; put the old file back"):
        ssl3d.load_encoder(folder, allow_code=True)

"""The main job from end to end on the smallest files: tables, encoders, interruption, the same from Python."""

from __future__ import annotations

import json
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
from ssl3d.evaluate.protocols.linear import linear
from ssl3d.results.records import read_result
from ssl3d.run.options import Options
from ssl3d.tables.leaderboard import COLUMNS
from ssl3d.tables.typed import read_table
from tests.runs import SMALL, Listener, arguments, cell_folder, left_behind, small_run, write_knees

STEPS = 24  # 8 epochs of 12 volumes in windows of 4
LONG = {"pretrain.epochs": 8}
KILLER = """
import json, os, signal, sys, time
from pathlib import Path
import ssl3d.api, ssl3d.run.cell  # before the forks: a child must not wait for imports
from ssl3d.cli.progress import JsonProgress
from ssl3d.run.options import Options
from ssl3d.train.build import backbone_class, method_class

loaded = [method_class(name) for name in ("byol", "moco", "random", "kinetics", "simclr")], backbone_class("tiny")
root, out = map(Path, sys.argv[1:3])
methods, settings, moments = map(json.loads, sys.argv[3:6])
for lines, seconds in moments:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        options = Options(root=root, out=out, device="cpu", checkpoint_seconds=0.0)
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


def assert_same_cells(first: Path, second: Path) -> None:
    names = sorted(path.name for path in (first / "cells").iterdir())
    assert names == sorted(path.name for path in (second / "cells").iterdir())
    for name in names:
        assert left_behind(first / "cells" / name) == left_behind(second / "cells" / name)


# Tables


def test_a_run_ends_in_tables_of_every_method_and_protocol(finished: Path) -> None:
    board = read_table(finished / "leaderboard.csv", COLUMNS)
    assert set(zip(board["method"], board["protocol"], strict=True)) == {
        (method, protocol) for method in ("byol", "moco", "random") for protocol in ("linear", "knn")
    }
    assert ((board["ci_low"] <= board["auc"]) & (board["auc"] <= board["ci_high"])).all()
    assert set(board.query("method == 'byol'")["exactness"]) == {"exact"}
    assert set(board.query("method == 'random'")["exactness"]) == {"not trained"}
    pairs = pd.read_csv(finished / "comparisons.csv")
    assert len(pairs) == 2 * 3
    assert "byol" in (finished / "leaderboard.md").read_text()


def test_predictions_hold_every_test_case_once_a_protocol(finished: Path, knees: Path) -> None:
    table = pd.read_csv(cell_folder(finished, "byol") / "predictions.csv", dtype={"case": str})
    labels = pd.read_csv(knees / "valid-acl.csv", header=None, names=["case", "label"], dtype={"case": str})
    for protocol in ("linear", "knn"):
        rows = table[table["protocol"] == protocol].sort_values("case")
        assert rows[["case", "label"]].to_numpy().tolist() == labels.sort_values("case").to_numpy().tolist()
        np.testing.assert_allclose(rows["p_0"] + rows["p_1"], 1.0, atol=1e-12)


def test_pretraining_sees_the_training_volumes_alone_and_logs_every_epoch(finished: Path) -> None:
    log = pd.read_csv(cell_folder(finished, "moco") / "log.csv")
    assert list(log["epoch"]) == list(range(1, 9))
    assert log["step"].iloc[-1] == STEPS
    assert np.isfinite(log.to_numpy()).all()
    result, _ = read_result(cell_folder(finished, "moco"))
    assert result.data is not None
    assert (result.data.n_train, result.data.n_test) == (12, 8)
    assert result.price.flops is not None
    assert result.price.flops > 0


def test_fine_tuning_and_a_method_from_a_file_run_through_the_same_door(knees: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from ssl3d_plugins.methods.simclr import SimCLR\nclass Mine(SimCLR): ...\n")
    settings = {"evaluate.protocols": ["finetune"], "evaluate.finetune_epochs": 1, "pretrain.epochs": 1}
    methods = f"{tmp_path}/mine.py:Mine"
    assert command([*arguments(knees, tmp_path / "run", "--quiet", methods=methods, **settings)]) == 0
    board = read_table(tmp_path / "run/leaderboard.csv", COLUMNS)
    assert set(board["method"]) == {methods, "random"}
    assert (board["status"] == "done").all()
    (folder,) = (tmp_path / "run/cells").glob("Mine-*")
    assert ssl3d.load_encoder(folder).embed_dim == 128


def test_the_demo_is_called_synthetic_in_the_output_and_in_every_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ["--set=view_size=[4,16,16]", "--set=evaluate.inner_folds=2", "--protocols=knn", "--device=cpu"]
    assert command(["bench", "--methods=random", f"--out={tmp_path}/run", *sets]) == 0
    assert capsys.readouterr().out.count("synthetic") >= 2
    assert pd.read_csv(tmp_path / "run/leaderboard.csv")["synthetic"].all()
    assert pd.read_csv(tmp_path / "run/cells.csv")["synthetic"].all()
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
    assert (cell_folder(tmp_path / "run", "byol") / "checkpoint.pt").exists()
    assert not list(tmp_path.glob("run/cells/*/result.json"))
    assert command([*line, "--quiet"]) == 0
    assert_same_cells(tmp_path / "run", finished)


def kill_and_go_on(knees: Path, out: Path, times: int) -> None:
    """Kill a run again and again, at random moments after random lines of its progress; then let it end."""
    draws = random.Random(0)  # noqa: S311  # moments, not secrets
    moments = [(draws.randrange(3, 30), draws.uniform(0, 0.05)) for _ in range(times)]
    values = [json.dumps(value) for value in (["byol", "moco"], {**SMALL, **LONG}, moments)]
    subprocess.run([sys.executable, "-c", KILLER, str(knees), str(out), *values], check=True, timeout=300)
    assert list(out.glob("cells/*/checkpoint.pt")) or list(out.glob("cells/*/result.json"))
    assert command([*arguments(knees, out, "--quiet", methods="byol,moco", **LONG)]) == 0


def test_a_run_killed_at_random_moments_ends_in_the_same_numbers(knees: Path, finished: Path, tmp_path: Path) -> None:
    kill_and_go_on(knees, tmp_path / "run", 4)
    assert_same_cells(tmp_path / "run", finished)


@pytest.mark.slow
def test_a_run_killed_forty_times_ends_in_the_same_numbers(knees: Path, finished: Path, tmp_path: Path) -> None:
    kill_and_go_on(knees, tmp_path / "run", 40)
    assert_same_cells(tmp_path / "run", finished)


# From Python


def api(knees: Path, out: Path, **changes: Any) -> pd.DataFrame:
    options = Options(root=knees, out=out, device="cpu")
    settings = {name: value for name, value in {**SMALL, **LONG}.items() if name != "data.name"}
    return ssl3d.bench(methods=["byol", "moco"], data="mrnet", settings=settings, options=options, **changes)


def test_bench_returns_the_leaderboard_that_it_wrote_and_trains_nothing_twice(finished: Path, knees: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*.safetensors")}
    for _ in range(2):
        listener = Listener()
        board = api(knees, finished, progress=listener)
        assert listener.started == []
        pd.testing.assert_frame_equal(board, read_table(finished / "leaderboard.csv", COLUMNS), check_exact=True)
    assert {path: path.read_bytes() for path in finished.rglob("*.safetensors")} == before


@pytest.mark.parametrize("method", ["byol", "random"])
def test_a_loaded_encoder_gives_the_features_that_were_judged(finished: Path, method: str) -> None:
    """Features of the loaded encoder, probed again, give the predictions in the file."""
    cell = cell_folder(finished, method)
    encoder = ssl3d.load_encoder(cell)
    assert not encoder.training
    store, result = Store.open(finished / "store"), read_result(cell)[0]
    parts = [store.labelled(split, "acl") for split in ("train", "test")]
    train, test = (
        extract(encoder, store, part, size=result.recipe.view_size, batch_size=16, device=torch.device("cpu"))
        for part in parts
    )
    again = linear(train, store.labels("acl", parts[0]), test, folds=2, seed=0, classes=2)
    table = pd.read_csv(cell / "predictions.csv").query("protocol == 'linear'")
    np.testing.assert_allclose(again.probabilities[:, 1], table["p_1"], rtol=1e-9)


def test_loading_an_encoder_says_what_is_missing(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"result\.json cannot be read \(No such file"):
        ssl3d.load_encoder(tmp_path)
    cell = cell_folder(finished, "byol")
    (tmp_path / "result.json").write_bytes((cell / "result.json").read_bytes())
    (tmp_path / "predictions.csv").write_bytes((cell / "predictions.csv").read_bytes())
    with pytest.raises(RunError, match=r"encoder\.safetensors is not there"):
        ssl3d.load_encoder(tmp_path)
    (tmp_path / "encoder.safetensors").write_bytes((cell / "encoder.safetensors").read_bytes()[:-8])
    with pytest.raises(RunError, match=r"encoder\.safetensors does not hold this cell's encoder"):
        ssl3d.load_encoder(tmp_path)


def test_a_run_leaves_the_global_generators_alone(knees: Path, tmp_path: Path) -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # watched
    settings = {**SMALL, "pretrain.epochs": 1, "evaluate.protocols": ["linear", "knn", "finetune"]}
    settings["evaluate.finetune_epochs"] = 1
    ssl3d.bench(["simclr"], settings=settings, options=Options(root=knees, out=tmp_path / "run", device="cpu"))
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # watched
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


def test_an_encoder_whose_plugin_was_edited_is_not_loaded(knees: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from ssl3d_plugins.methods.baselines import Random\nclass Mine(Random):\n    pass\n")
    outcome = small_run(knees, tmp_path / "run", (f"{file}:Mine",), baselines=False)
    (cell,) = (outcome.folder / "cells").iterdir()
    assert ssl3d.load_encoder(cell).embed_dim == 128
    with pytest.raises(RunError, match="is a run; name one of its cells"):
        ssl3d.load_encoder(outcome.folder)
    file.write_text("raise SystemExit('code ran')\n")
    with pytest.raises(RunError, match="was edited since"):
        ssl3d.load_encoder(cell)

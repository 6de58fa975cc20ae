"""Whole runs from the outside: planes and tasks into every table, growth, logs, and the smallest and worst inputs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from ssl3d.cli import run as command
from ssl3d.data.store import Store
from ssl3d.errors import DataError, RunError
from ssl3d.files import LOG
from ssl3d.results.folder import WEIGHTS
from ssl3d.results.read import read_plan, read_results
from ssl3d.run import table_writer
from ssl3d.tables import write as write_module
from ssl3d.tables.dictionary import LOG_COLUMNS
from tests.run.watched import watched, write_folder
from tests.runs import Listener, encoder_folder, small_run, write_knees

QUICK: dict[str, Any] = {"controls": "none", "evaluate__protocols": "knn", "pretrain__epochs": 1}
TASKS, PLANES = ("acl", "meniscus"), ("axial", "sagittal")
FROZEN = """
from ssl3d_plugins.methods.simclr import SimCLR


class FrozenBackbone(SimCLR):
    def build(self):
        super().build()
        self.backbone.requires_grad_(False)


class Frozen(SimCLR):
    def build(self):
        super().build()
        self.requires_grad_(False)
"""


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees")


def failed(outcome: Any) -> str:
    """Return the one reason of a run in which one artifact failed."""
    (reason,) = outcome.failures.values()
    assert "\n" not in reason
    return str(reason)


# Every table


@pytest.fixture(scope="module")
def crossed(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of simclr and the untrained encoder over planes and tasks, with half of the labels, too."""
    fields = {**QUICK, "data__task": ",".join(TASKS), "data__plane": ",".join(PLANES), "evaluate__labels": (0.5,)}
    outcome = small_run(
        knees, tmp_path_factory.mktemp("runs") / "run", ("simclr", "random"), evaluate__draws=2, **fields
    )
    assert outcome.failures == {}
    return outcome.folder


def test_a_run_over_planes_and_tasks_pretrains_once_per_plane(crossed: Path) -> None:
    plan = read_plan(crossed)
    assert sorted((one.recipe.method, len(one.recipe.corpus)) for one in plan.encoders.values()) == [
        ("random", 0), ("simclr", 1), ("simclr", 1),
    ]  # fmt: skip
    assert len(plan.evaluations) == 2 * len(TASKS) * len(PLANES) * (1 + 2)


def test_a_run_over_planes_and_tasks_ends_in_every_table(crossed: Path) -> None:
    planes, tasks = {*PLANES, "axial + sagittal"}, {*TASKS, "mean of acl, meniscus"}
    tables = {(method, task, plane) for method in ("simclr", "random") for task in tasks for plane in planes}
    board = pd.read_csv(crossed / "leaderboard.csv")
    assert set(zip(board["method"], board["task"], board["plane"], strict=True)) == tables
    assert len(board) == len(tables)
    assert (board["status"] == "done").all()
    pairs = pd.read_csv(crossed / "comparisons.csv")
    assert len(pairs) == len(tasks) * len(planes)
    rows = pd.read_csv(crossed / "evaluations.csv")
    assert len(rows) == len(read_plan(crossed).evaluations)
    curves = pd.read_csv(crossed / "curves.csv")
    assert {(task, plane) for task in TASKS for plane in PLANES} <= set(
        zip(curves["task"], curves["plane"], strict=True)
    )
    text = (crossed / "leaderboard.md").read_text()
    assert all(f"task {task}, plane {plane}" in text for task in tasks for plane in planes)


@pytest.mark.slow
def test_a_run_over_planes_and_tasks_ends_in_a_report(crossed: Path) -> None:
    assert command(["report", str(crossed)]) == 0
    page = (crossed / "report.html").read_text()
    assert all(text in page for text in ("simclr", "meniscus", "axial + sagittal", "mean of acl, meniscus"))


def test_a_run_over_planes_and_tasks_is_sound(crossed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["verify", str(crossed)]) == 0, capsys.readouterr().out


# Growth


def test_a_label_share_and_a_protocol_added_later_pretrain_and_encode_nothing(knees: Path, tmp_path: Path) -> None:
    run = small_run(knees, tmp_path / "run", ("simclr",), **QUICK).folder
    before = {path: path.read_bytes() for path in run.rglob("*") if path.parent.parent.name in ("encoders", "features")}
    assert len(before) == 4 + 2
    listener = Listener()
    more = {**QUICK, "evaluate__protocols": "knn,linear", "evaluate__labels": (0.5,), "evaluate__draws": 3}
    assert small_run(knees, run, ("simclr",), listener, **more).failures == {}
    assert listener.pretrained == []
    assert len(listener.made) == 3 + (1 + 3)  # draws of knn, and linear with all labels and with the draws
    assert {path: path.read_bytes() for path in before} == before


# Logs


@pytest.mark.parametrize(("method", "views"), [("simclr", 2), ("supervised", 1)])
def test_a_log_has_the_columns_of_the_dictionary(knees: Path, tmp_path: Path, method: str, views: int) -> None:
    run = small_run(knees, tmp_path / "run", (method,), **{**QUICK, "pretrain__epochs": 2}).folder
    log = pd.read_csv(encoder_folder(run, method) / LOG)
    expected = [name for name in LOG_COLUMNS if views == 2 or name != "alignment"]
    assert {name for name in log if name in LOG_COLUMNS} == set(expected)
    assert list(log["epoch"]) == [1, 2]
    assert np.isfinite(log[expected].to_numpy()).all()


# Tables that fail


@pytest.mark.parametrize("error", [RunError("the folder is gone"), ZeroDivisionError("a bug")])
def test_tables_that_fail_stop_no_evaluation(
    knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(table_writer, "TABLE_SECONDS", 0.0)  # after every artifact
        patched.setattr(table_writer, "SHARE", 0.0)
        patched.setattr(write_module, "write_tables", fails)
        listener = Listener()
        with pytest.raises(type(error), match=str(error)):
            small_run(knees, tmp_path / "run", ("simclr", "random"), listener, **QUICK)
    assert any("the tables are not written yet" in note and str(error) in note for note in listener.notes)
    results = read_results(tmp_path / "run")
    assert (len(results.evaluated), results.failed, results.pending) == (2, (), ())
    listener = Listener()
    assert small_run(knees, tmp_path / "run", ("simclr", "random"), listener, **QUICK).failures == {}
    assert listener.made == []
    assert set(pd.read_csv(tmp_path / "run/leaderboard.csv")["method"]) == {"simclr", "random"}


# The smallest data


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("random", "all 1 training cases of 'lesion' are of class '0'; a protocol needs at least two classes"),
        ("simclr", "folder two has one volume to pretrain on, and a batch needs two; add volumes"),
    ],
)
def test_a_data_set_of_two_volumes_is_refused_in_one_sentence(tmp_path: Path, method: str, message: str) -> None:
    root, listener = write_folder(tmp_path / "two", ["a.npy,train,A,0", "b.npy,test,B,1"]), Listener()
    with pytest.raises(DataError) as caught:
        small_run(root, tmp_path / "run", (method,), listener, data__name="folder", **QUICK)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert listener.started_list == []


def test_two_training_volumes_are_pretrained_on_and_learnt_from(tmp_path: Path) -> None:
    rows = ["a.npy,train,A,0", "b.npy,train,B,1", "c.npy,test,C,0", "d.npy,test,D,1"]
    root = write_folder(tmp_path / "few", rows)
    fields = {**QUICK, "evaluate__protocols": "linear,knn", "pretrain__epochs": 2}
    listener, whole = Listener(), "the effective batch is 2, all training volumes: fewer than 4"
    outcome = small_run(root, tmp_path / "run", ("simclr", "byol"), listener, data__name="folder", **fields)
    assert outcome.failures == {}
    for one in read_results(outcome.folder).evaluated:
        assert list(one.predictions["case"]) == ["c.npy", "d.npy"]
        assert whole in one.encoder.notes
        if one.encoder.recipe.method == "byol":
            momentum = f"momentum = {one.encoder.resolved['momentum']:g} (auto; 0.996 in the paper)"
            assert momentum in one.encoder.notes
            assert one.encoder.recipe.method_config["momentum"] == "auto"
    assert {f"simclr: {whole}", f"byol: {whole}", f"byol: {momentum}"} <= set(listener.notes)
    assert pd.read_csv(outcome.folder / "leaderboard.csv")["auc"].between(0, 1).all()


def test_one_volume_to_pretrain_on_is_refused_in_one_sentence(knees: Path, tmp_path: Path) -> None:
    root, listener = write_folder(tmp_path / "one", ["a.npy,unlabelled,A"], "path,split,patient"), Listener()
    fields = {**QUICK, "corpus": "folder", "roots": {"folder": root, "mrnet": knees}}
    with pytest.raises(DataError, match=r"^folder one has one volume to pretrain on, and a batch needs two; add"):
        small_run(knees, tmp_path / "run", ("simclr",), listener, **fields)
    assert listener.started_list == []


# Damage


def test_a_damaged_store_is_found_before_it_is_trained_on(knees: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    small_run(knees, tmp_path / "first", ("random",), cache=cache, **QUICK)
    (path,) = cache.glob("stores/*/volumes.bin")
    shutil.rmtree(cache / "features")
    content = bytearray(path.read_bytes())
    content[:: len(content) // 30] = bytes(30 + 1)  # in every volume, a voxel here and there
    path.write_bytes(content)
    with watched() as watcher:
        outcome = small_run(knees, tmp_path / "run", ("simclr",), watcher, cache=cache, **QUICK)
    message = failed(outcome)
    assert message.startswith(str(path))
    assert message.endswith("is damaged; the same `ssl3d bench` command packs it again")
    assert watcher.losses == set()
    assert not list(cache.glob("encoders/simclr-*/encoder.*"))
    assert pd.read_csv(tmp_path / "run/leaderboard.csv")["status"].tolist() == ["failed"]
    with watched() as watcher:
        assert small_run(knees, tmp_path / "run", ("simclr",), watcher, cache=cache, **QUICK).failures == {}
    assert [note for note in watcher.notes if "packed again" in note] == [
        f"the packed volumes in {path.parent} are damaged: mrnet (synthetic) sagittal is packed again"
    ]
    Store.open(path.parent).verify()


# Methods with nothing to train


@pytest.mark.parametrize("more", [{}, {"pretrain__micro_batch": 2}])
def test_a_method_with_nothing_to_train_is_one_sentence(knees: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    (tmp_path / "frozen.py").write_text(FROZEN)
    message = failed(small_run(knees, tmp_path / "run", (f"{tmp_path}/frozen.py:Frozen",), **QUICK, **more))
    assert "Error" not in message
    assert "traceback" not in message
    assert message.startswith(("Frozen has no trainable parameter; leave", "the loss of Frozen depends on nothing"))


@pytest.mark.parametrize("more", [{}, {"pretrain__micro_batch": 2}])
def test_a_frozen_backbone_below_a_trained_head_is_noted(knees: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    (tmp_path / "frozen.py").write_text(FROZEN)
    methods = (f"{tmp_path}/frozen.py:FrozenBackbone", "random")
    run = small_run(knees, tmp_path / "run", methods, **QUICK, **more).folder
    weights = [load_file(encoder_folder(run, name) / WEIGHTS) for name in ("FrozenBackbone", "random")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    notes = pd.read_csv(run / "leaderboard.csv").set_index("method")["note"].fillna("")
    assert notes[notes.str.contains("no parameter of the backbone was trained")].index.tolist() == [methods[0]]

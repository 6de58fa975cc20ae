"""The folder of a run: claimed, continued, started again; artifacts that are complete, damaged, failed, interrupted."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from ssl3d.errors import DataError, RecipeError, RunError, UserError, WeightsError
from ssl3d.experiment import Experiment, read_experiment
from ssl3d.results.lease import Leases
from ssl3d.results.model import PlanRecord
from ssl3d.results.read import read_plan, read_results
from ssl3d.run import claim
from ssl3d.run import encoder as encoder_module
from ssl3d.run.claim import claimed
from ssl3d.run.options import Options
from ssl3d.run.planning.merge_requests import beyond, words
from ssl3d.run.planning.plan import make_plan
from ssl3d.run.worker import disk_full, reason
from tests.runs import Listener, encoder_folder, evaluation_folder, left_behind, record, small_run, write_knees

CONTROLS = ("random", "voxels", "statistics")  # that stand in every table

BYOL = "byol on tiny, seed 0, pretrained on mrnet sagittal"


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees")


@pytest.fixture(scope="module")
def finished(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one method and the random baseline; copy it before changing it."""
    return small_run(knees, tmp_path_factory.mktemp("runs") / "finished").folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def asked_and_planned(run: Path) -> tuple[Experiment, PlanRecord]:
    """What recipe.toml asks for, and the plan."""
    return read_experiment(run / "recipe.toml"), read_plan(run)


def refused(kind: type[UserError], knees: Path, out: Path, **changes: Any) -> str:
    """Return the one-sentence message with which a run is refused; nothing was started."""
    listener = Listener()
    with pytest.raises(kind) as caught:
        small_run(knees, out, progress=listener, **changes)
    assert listener.started_list == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Claiming


def test_a_run_leaves_what_it_says_and_nothing_else(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        "encoders", "features", "evaluations", "stores", "leases", "plan.json", "recipe.toml",
        "leaderboard.csv", "leaderboard.md", "comparisons.csv", "evaluations.csv",
    }  # fmt: skip
    files = {"encoder.json", "encoder.safetensors", "README.md"}
    assert {path.name for path in encoder_folder(finished, "byol").iterdir()} == files | {"log.csv"}
    assert {path.name for path in encoder_folder(finished, "random").iterdir()} == files
    files = {"evaluation.json", "predictions.csv", "training.csv"}
    assert {path.name for path in evaluation_folder(finished, "byol", "knn").iterdir()} == files
    assert [path.name for path in finished.glob("leases/*")] == []


def test_the_plan_names_every_artifact_and_where_it_comes_from(finished: Path, knees: Path) -> None:
    plan = read_plan(finished)
    assert {encoder.name for encoder in plan.encoders.values()} == {p.name for p in finished.glob("encoders/*")}
    assert {one.name for one in plan.evaluations.values()} == {
        str(path.relative_to(finished / "evaluations")) for path in finished.glob("evaluations/*/*")
    }
    assert (plan.roots, plan.cache) == ({"": str(knees.resolve())}, None)
    assert [Path(folder).parent for folder in plan.stores.values()] == [finished.resolve() / "stores"]
    results = read_results(finished)
    assert (len(results.evaluated), results.failed, results.pending) == (8, (), ())


def test_files_of_a_run_have_the_permissions_that_the_user_gives_new_files(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    assert (finished / "leaderboard.csv").stat().st_mode == (tmp_path / "new").stat().st_mode


def test_what_is_complete_is_not_made_again(knees: Path, run: Path) -> None:
    before = {kind: contents(run / kind) for kind in ("encoders", "features", "evaluations")}
    listener = Listener()
    assert small_run(knees, run, progress=listener).failures == {}
    assert (listener.started_list, listener.made) == ([], [])
    assert len(listener.outcomes) == 4 * 4  # encoder, features, two evaluations
    assert {kind: contents(run / kind) for kind in before} == before


def test_a_run_may_grow_by_methods_seeds_protocols_and_label_shares(knees: Path, run: Path) -> None:
    listener = Listener()
    more: dict[str, Any] = {"evaluate__protocols": ("knn",), "evaluate__labels": (0.5,), "evaluate__draws": 3}
    small_run(knees, run, methods=("random",), seeds=(0, 1), progress=listener, controls="none", **more)
    assert listener.pretrained == []
    assert len([label for label in listener.made if "labels=0.5 draw=" in label]) == 2 * 3
    assert set(pd.read_csv(run / "leaderboard.csv")["method"]) == {"byol", *CONTROLS}
    experiment, plan = asked_and_planned(run)
    assert (experiment.methods, experiment.seeds, experiment.controls) == (("byol", "random"), (0, 1), CONTROLS)
    assert (experiment.evaluate.protocols, experiment.evaluate.labels) == (("linear", "knn"), (1.0, 0.5))
    assert len(plan.evaluations) == 8 + 3 + 1 + 3


@pytest.mark.parametrize("methods", [("byol",), ("simclr", "random")])
def test_the_recipe_of_a_run_spreads_out_into_its_requests_presets_kept(
    tmp_path: Path, methods: tuple[str, ...]
) -> None:
    from ssl3d.run.claim import publish

    plan = make_plan(read_experiment(None, {"methods": methods, "pretrain.lr": 0.25}))
    with claimed(plan, Options(out=tmp_path / "run")) as folder:
        publish(folder, plan, PlanRecord(base=plan.experiment.base()))
    again = make_plan(read_experiment(tmp_path / "run" / "recipe.toml"))
    assert again.requests == plan.requests


def test_a_run_made_in_several_calls_has_a_recipe_of_all_of_them(knees: Path, tmp_path: Path) -> None:
    small_run(knees, tmp_path / "run", methods=("random",), seeds=(0, 1), controls="none")
    assert beyond(*asked_and_planned(tmp_path / "run")) == []
    again: dict[str, Any] = {"methods": ("simclr",), "seeds": (1, 2), "controls": "none", "data__task": "meniscus"}
    small_run(knees, tmp_path / "run", **again)
    experiment, plan = asked_and_planned(tmp_path / "run")
    assert (experiment.methods, experiment.seeds, experiment.controls) == (("random", "simclr"), (0, 1, 2), ("none",))
    assert set(experiment.data.task or ()) == {"acl", "meniscus"}
    missing = beyond(experiment, plan)
    assert len(missing) == 2 * 3 * 2 - 4
    assert words(missing[0]) == "random on tiny, seed 0, meniscus of mrnet sagittal"


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"pretrain__epochs": 3}, "pretrain.epochs is 2 there and 3 here"),
        ({"augment__blur": 0.25}, "augment.blur is 0.5 there and 0.25 here"),
        ({"data__folds": 2}, "data.folds is None there and 2 here"),
        ({"corpus": "demo"}, "corpus is None there and ['demo'] here"),
        ({"view_size": (4, 16, 18)}, "view_size is [4, 16, 17] there and [4, 16, 18] here"),
    ],
)
def test_another_run_is_refused_by_its_first_difference(
    knees: Path, run: Path, changes: dict[str, Any], difference: str
) -> None:
    before = contents(run)
    message = refused(RunError, knees, run, roots={"mrnet": knees}, **changes)
    assert message == f"{run} holds another run: {difference}; choose another --out, or --fresh to start again"
    assert contents(run) == before


def test_a_folder_with_other_files_is_refused_and_left_alone(knees: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for fresh in (False, True):
        assert "holds other files (notes.txt) and no run" in refused(RunError, knees, tmp_path, fresh=fresh)
        assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_a_file_where_the_folder_should_be_is_refused(knees: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    assert "run is a file, and a run is a folder" in refused(RunError, knees, tmp_path / "run")


def test_a_file_system_that_cannot_be_written_is_refused(knees: Path) -> None:
    assert "cannot be written (" in refused(RunError, knees, Path("/proc/run"))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"base": {}}', '{"base": 1, "cells": {}}'])
def test_a_damaged_plan_is_refused(knees: Path, run: Path, text: str) -> None:
    (run / "plan.json").write_text(text)
    message = refused(RunError, knees, run)
    assert str(run) in message
    assert "--fresh" in message


# Starting again


def test_fresh_deletes_what_a_run_wrote_and_nothing_else(knees: Path, run: Path) -> None:
    (run / "notes.txt").write_text("mine")
    (encoder_folder(run, "byol") / "figure.png").write_text("mine")
    (run / "evaluations/mine").mkdir()
    (run / "evaluations/mine/notes.txt").write_text("mine")
    (run / "plan.json").write_text("{")  # a damaged one is no obstacle
    store = contents(run / "stores")
    listener = Listener()
    small_run(knees, run, fresh=True, methods=("random",), progress=listener, pretrain__epochs=1)
    assert all(label.startswith(CONTROLS) for label in listener.started_list)
    assert (run / "notes.txt").read_text() == "mine"
    assert [path.name for path in encoder_folder(run, "byol").iterdir()] == ["figure.png"]
    assert (run / "evaluations/mine/notes.txt").read_text() == "mine"
    assert not list(run.glob("features/*byol*"))
    assert contents(run / "stores") == store
    assert set(pd.read_csv(run / "leaderboard.csv")["method"]) == set(CONTROLS)


def test_fresh_is_refused_while_another_process_works_on_the_run(knees: Path, run: Path) -> None:
    before = contents(run / "encoders")
    with Leases(run / "leases").hold("worker-other"):
        assert f"another process works on {run}" in refused(RunError, knees, run, fresh=True)
    assert contents(run / "encoders") == before
    assert small_run(knees, run, ("random",), fresh=True).failures == {}


def left_elsewhere(run: Path, key: str = "worker-other", count: int = 1) -> Path:
    """The lease of a process on another machine."""
    path = run / "leases" / f"{key}.lease"
    path.write_text(json.dumps({"count": count, "host": "elsewhere", "pid": 1, "started": "1", "token": "t"}))
    return path


def test_fresh_waits_for_a_sign_of_life_from_workers_elsewhere_and_says_so_once(
    knees: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "Leases", partial(Leases, expires=0.3))
    monkeypatch.setattr(claim, "LOOK_SECONDS", 0.05)
    left = [left_elsewhere(run), left_elsewhere(run, "worker-another")]
    listener = Listener()
    assert small_run(knees, run, ("random",), fresh=True, progress=listener).failures == {}
    assert [note for note in listener.notes if "sign of life" in note] == [
        "a process on another machine, or on this one before it was restarted, is registered as working on "
        f"{run}; waiting up to 0 s for a sign of life before anything is deleted"
    ]
    assert not any(path.exists() for path in left)
    assert not list(run.glob("encoders/byol-*"))


def test_fresh_is_refused_as_soon_as_a_worker_elsewhere_shows_that_it_lives(
    knees: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "LOOK_SECONDS", 0.05)
    before = contents(run / "encoders")
    left_elsewhere(run)

    class Counts(Listener):
        def note(self, text: str) -> None:
            super().note(text)
            left_elsewhere(run, count=2)

    started = time.monotonic()
    with pytest.raises(RunError, match=f"another process works on {run}"):
        small_run(knees, run, fresh=True, progress=Counts())
    assert time.monotonic() - started < 30, "long before the lease expires"
    assert contents(run / "encoders") == before


def test_waiting_for_the_plan_is_announced_once_and_only_when_it_takes_long(
    knees: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "Leases", partial(Leases, expires=0.4))
    for patience, expected in ((60.0, 0), (0.1, 1)):
        monkeypatch.setattr(claim, "PATIENCE_SECONDS", patience)
        left_elsewhere(run, claim.LOCK)
        listener = Listener()
        assert small_run(knees, run, progress=listener).failures == {}
        notes = [note for note in listener.notes if f"another process that locks {run / 'plan.json'}" in note]
        assert len(notes) == expected


# Data


def test_packing_that_is_interrupted_goes_on_and_the_folder_stays_this_runs(knees: Path, tmp_path: Path) -> None:
    class Quits(Listener):
        def advance(self, done: int, figures: Any) -> None:
            if done == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_run(knees, tmp_path / "run", progress=Quits())
    assert small_run(knees, tmp_path / "run", methods=("random",)).failures == {}


def test_a_data_set_that_was_repaired_runs_in_the_same_folder(knees: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(knees, tmp_path / "data"))
    path = root / "train/sagittal/0005.npy"
    sound = path.read_bytes()
    path.write_bytes(sound[:-7])
    assert "train/sagittal/0005.npy is truncated" in refused(DataError, root, tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.csv"))
    path.write_bytes(sound)
    assert small_run(root, tmp_path / "run", methods=("random",)).failures == {}


def test_a_fault_of_the_tables_leaves_no_folder(knees: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(knees, tmp_path / "data"))
    (root / "train-acl.csv").write_text("case,label\n" + (root / "train-acl.csv").read_text())
    assert "train-acl.csv row 1" in refused(DataError, root, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_class_in_training_is_refused_before_pretraining(knees: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(knees, tmp_path / "data"))
    table = root / "train-acl.csv"
    table.write_text(table.read_text().replace(",1", ",0"))
    assert "a protocol needs at least two classes" in refused(DataError, root, tmp_path / "run")


def test_one_class_in_test_is_reported_in_the_table(knees: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(knees, tmp_path / "data"))
    table = root / "valid-acl.csv"
    table.write_text(table.read_text().replace(",1", ",0"))
    outcome = small_run(root, tmp_path / "run", methods=("random",))
    assert outcome.failures == {}
    assert pd.read_csv(outcome.folder / "leaderboard.csv")["auc"].isna().all()


def test_a_damaged_store_fails_what_is_made_from_it(knees: Path, run: Path) -> None:
    (path,) = run.glob("stores/*/volumes.bin")
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)
    (encoder_folder(run, "byol") / "encoder.json").unlink()
    reasons = small_run(knees, run).failures
    assert list(reasons) == [BYOL]
    assert "is damaged; the same `ssl3d bench` command packs it again" in reasons[BYOL]
    assert small_run(knees, run).failures == {}


# Devices and weights


def test_a_device_that_does_not_exist_is_refused_before_anything_is_written(knees: Path, tmp_path: Path) -> None:
    assert "unknown device 'cudaa'" in refused(RecipeError, knees, tmp_path / "run", device="cudaa")
    assert "needs a GPU" in refused(RecipeError, knees, tmp_path / "run", pretrain__precision="16-mixed")
    assert not (tmp_path / "run").exists()


def wrong_network(path: Path) -> None:
    torch.save({"stem.0.weight": torch.zeros(64, 3, 3, 7, 7)}, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such weights file"),
        (lambda path: path.write_bytes(b"PK\x03\x04 not really"), "is damaged or holds no weights"),
        (wrong_network, "matched 1 of 60 tensors (2%)"),
    ],
)
def test_a_file_of_weights_that_does_not_fit_is_refused_before_anything_runs(
    knees: Path, tmp_path: Path, write: Callable[[Path], object], message: str
) -> None:
    write(tmp_path / "weights.pth")
    options: dict[str, Any] = {"backbones": ("r3d_18",), "view_size": (8, 32, 32)}
    options["init__weights"] = str(tmp_path / "weights.pth")
    assert message in refused(WeightsError, knees, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


# Failures


BROKEN = """
from ssl3d_plugins.methods.byol import BYOL


class Broken(BYOL):
    def after_step(self, progress, kept):
        raise {error}
"""


def broken(folder: Path, error: str) -> str:
    (folder / "broken.py").write_text(BROKEN.format(error=error))
    return f"{folder}/broken.py:Broken"


def test_an_encoder_that_fails_is_recorded_with_all_that_needs_it_and_the_rest_goes_on(
    knees: Path, tmp_path: Path
) -> None:
    methods = (broken(tmp_path, "ValueError('no\\nluck')"), "random")
    outcome = small_run(knees, tmp_path / "run", methods=methods)
    why = "ValueError: no luck (traceback: error.txt in the artifact's folder)"
    assert outcome.failures == {"Broken on tiny, seed 0, pretrained on mrnet sagittal": why}
    folder = encoder_folder(tmp_path / "run", "Broken")
    failure = record(folder, "failure")
    assert (failure["kind"], failure["reason"], failure["caused_by"]) == ("encoder", why, None)
    assert "Traceback" in (folder / "error.txt").read_text()
    below = record(evaluation_folder(tmp_path / "run", "Broken"), "failure")
    assert (below["kind"], below["reason"], below["caused_by"]) == ("evaluation", why, failure["key"])
    board = pd.read_csv(tmp_path / "run/leaderboard.csv")
    assert set(board.query("method == 'random'")["status"]) == {"done"}
    failed = board[board["method"] == methods[0]]
    assert set(failed["status"]) == {"failed"}
    assert failed["note"].str.contains("no luck").all()


def test_what_failed_is_tried_again_and_what_is_complete_is_not(
    knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(encoder_module, "pretrained", fails)
    outcome = small_run(knees, tmp_path / "run")
    assert "smaller --micro-batch" in outcome.failures[BYOL]
    monkeypatch.undo()
    listener = Listener()
    assert small_run(knees, tmp_path / "run", progress=listener).failures == {}
    assert len(listener.made) == 4
    assert all(label.startswith("byol") for label in listener.made)
    assert not list((tmp_path / "run").rglob("error.txt")) + list((tmp_path / "run").rglob("failure.json"))
    assert (pd.read_csv(tmp_path / "run/leaderboard.csv")["status"] == "done").all()


def test_a_full_disk_stops_the_run_with_one_sentence(
    knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/there/encoder.safetensors")

    monkeypatch.setattr(encoder_module, "pretrained", full)
    with pytest.raises(RunError, match=r"/there/encoder\.safetensors cannot be written: the disk is full; free some"):
        small_run(knees, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("failure.json"))
    assert disk_full(ValueError("no")) is None


def test_out_of_memory_of_any_kind_gives_the_hint() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    for error in (caught.value, MemoryError(), torch.OutOfMemoryError("CUDA out of memory")):
        assert reason(error).startswith("out of memory; set a smaller --micro-batch")
    assert reason(ValueError("x\n  y")).startswith("ValueError: x y (traceback: error.txt")
    assert reason(ValueError()).startswith("ValueError: no message (")
    assert reason(RunError("As it is.")) == "As it is."


def test_a_corrupt_checkpoint_fails_its_encoder_and_is_named(knees: Path, tmp_path: Path) -> None:
    method = broken(tmp_path, "ValueError('x')")
    small_run(knees, tmp_path / "run", methods=(method,), controls="none")
    checkpoint = encoder_folder(tmp_path / "run", "Broken") / "checkpoint.pt"
    checkpoint.write_bytes(b"half")
    (message,) = small_run(knees, tmp_path / "run", methods=(method,), controls="none").failures.values()
    assert message.startswith(f"{checkpoint} cannot be read as a checkpoint")


def test_tables_are_there_after_an_interruption(knees: Path, tmp_path: Path) -> None:
    class Quits(Listener):
        def started(self, artifact: str) -> None:
            if artifact.startswith("random"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_run(knees, tmp_path / "run", progress=Quits())
    for table in ("leaderboard.csv", "evaluations.csv"):
        assert set(pd.read_csv(tmp_path / "run" / table)["method"]) == {"byol"}


def test_interrupted_while_evaluating_it_goes_on_without_training(knees: Path, finished: Path, tmp_path: Path) -> None:
    class Quits(Listener):
        def phase(self, artifact: str, what: str, total: int, unit: str, done: int = 0) -> None:
            if what == "evaluating":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_run(knees, tmp_path / "run", progress=Quits())
    listener = Listener()
    small_run(knees, tmp_path / "run", progress=listener)
    assert listener.pretrained == []
    assert left_behind(tmp_path / "run") == left_behind(finished)


def test_interrupted_while_training_it_goes_on_from_the_checkpoint(knees: Path, finished: Path, tmp_path: Path) -> None:
    class Quits(Listener):
        def advance(self, done: int, figures: Any) -> None:
            if "loss" in figures and done == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_run(knees, tmp_path / "run", progress=Quits(), checkpoint_seconds=0.0)
    assert (encoder_folder(tmp_path / "run", "byol") / "checkpoint.pt").exists()
    listener = Listener()
    small_run(knees, tmp_path / "run", progress=listener)
    assert any("after step 3" in note for note in listener.notes)
    assert left_behind(tmp_path / "run") == left_behind(finished)


def test_seeds_are_aggregated(knees: Path, tmp_path: Path) -> None:
    small_run(knees, tmp_path / "run", methods=("random",), seeds=(0, 1))
    board = pd.read_csv(tmp_path / "run/leaderboard.csv")
    scores = pd.read_csv(tmp_path / "run/evaluations.csv").groupby(["method", "protocol"])["auc"]
    assert list(board["seeds"]) == [2] * 6
    for row in board.to_dict("records"):
        of = row["method"], row["protocol"]
        assert row["auc"] == pytest.approx(scores.mean()[of])
        assert row["spread"] == pytest.approx(scores.std()[of])

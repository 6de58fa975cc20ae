"""The folder of a run: claimed, held, gone on with, begun anew; cells that are done, that fail, that were killed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from ssl3d.errors import DataError, RecipeError, RunError, UserError, WeightsError
from ssl3d.experiment import Experiment, read_experiment
from ssl3d.report.page import write_report
from ssl3d.results.files import write_atomic
from ssl3d.results.folder import claimed
from ssl3d.results.records import read_result
from ssl3d.run import execute as execute_module
from ssl3d.run.execute import reason
from ssl3d.run.merge_requests import beyond
from ssl3d.run.plan import make_plan
from tests.runs import Listener, cell_folder, left_behind, small_run, write_knees


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


def plan_of(run: Path) -> dict[str, Any]:
    """Recipes of a run by the names of its cells."""
    return dict(json.loads((run / "plan.json").read_text())["cells"])


def asked_and_there(run: Path) -> tuple[Experiment, list[Any]]:
    """What recipe.toml asks for, and the recipes that the folder holds."""
    return read_experiment(run / "recipe.toml"), list(plan_of(run).values())


def refused(kind: type[UserError], knees: Path, out: Path, **changes: Any) -> str:
    """Return the one-sentence message with which a run is refused; no cell was started."""
    listener = Listener()
    with pytest.raises(kind) as caught:
        small_run(knees, out, progress=listener, **changes)
    assert listener.started == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Claiming


def test_a_run_leaves_what_it_says_and_nothing_else(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        ".lock", "cells", "features", "store", "plan.json", "recipe.toml",
        "leaderboard.csv", "leaderboard.md", "comparisons.csv", "cells.csv",
    }  # fmt: skip
    files = {"result.json", "predictions.csv", "training.csv", "encoder.safetensors"}
    assert {path.name for path in cell_folder(finished, "byol").iterdir()} == files | {"log.csv"}
    assert {path.name for path in cell_folder(finished, "random").iterdir()} == files


def test_files_of_a_run_have_the_permissions_that_the_user_gives_new_files(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    assert (finished / "leaderboard.csv").stat().st_mode == (tmp_path / "new").stat().st_mode


def test_cells_that_are_done_are_not_done_again(knees: Path, run: Path) -> None:
    before = contents(run / "cells")
    listener = Listener()
    assert small_run(knees, run, progress=listener).failures == {}
    assert listener.started == []
    assert listener.finished == {"byol": "done before", "random": "done before"}
    assert contents(run / "cells") == before


def test_a_run_may_grow_by_methods_and_seeds(knees: Path, run: Path) -> None:
    listener = Listener()
    small_run(knees, run, methods=("random",), seeds=(0, 1), progress=listener)
    assert (listener.started, listener.finished["random"][:6]) == (["random"], "linear")
    assert set(json.loads((run / "plan.json").read_text())["cells"]) == {p.name for p in (run / "cells").iterdir()}
    assert set(pd.read_csv(run / "leaderboard.csv")["method"]) == {"byol", "random"}


@pytest.mark.parametrize("methods", [("byol",), ("simclr", "random")])
def test_the_recipe_of_a_run_spreads_out_into_its_cells_presets_kept(tmp_path: Path, methods: tuple[str, ...]) -> None:
    plan = make_plan(read_experiment(None, {"methods": methods, "pretrain.lr": 0.25}))
    cells = {cell.name: cell.recipe.model_dump(mode="json") for cell in plan.cells}
    with claimed(tmp_path / "run", plan.experiment, cells, fresh=False):
        again = make_plan(read_experiment(tmp_path / "run" / "recipe.toml"))
    assert [cell.name for cell in again.cells] == list(cells)


def test_a_run_made_in_several_calls_has_a_recipe_of_all_of_them(knees: Path, tmp_path: Path) -> None:
    small_run(knees, tmp_path / "run", methods=("random",), seeds=(0, 1), baselines=False)
    assert beyond(*asked_and_there(tmp_path / "run")) == []
    again = {"methods": ("simclr",), "seeds": (1, 2), "baselines": False, "data__task": "meniscus"}
    small_run(knees, tmp_path / "run", **again)
    experiment, there = asked_and_there(tmp_path / "run")
    assert (experiment.methods, experiment.seeds, experiment.baselines) == (("random", "simclr"), (0, 1, 2), False)
    assert set(experiment.data.task or ()) == {"acl", "meniscus"}
    assert {cell.name for cell in make_plan(experiment, knees).cells} > set(plan_of(tmp_path / "run"))
    assert len(beyond(experiment, there)) == 2 * 3 * 2 - 4
    page = write_report(tmp_path / "run").read_text()
    assert "adds what is not in this one: random on tiny, seed 0, meniscus, sagittal; " in page
    assert ", and 5 more</dd>" in page


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"pretrain__epochs": 3}, "pretrain.epochs is 2 there and 3 here"),
        ({"augment__blur": 0.25}, "augment.blur is 0.5 there and 0.25 here"),
        ({"data__folds": 2}, "data.folds is None there and 2 here"),
        ({"evaluate__protocols": ("knn",)}, r"evaluate.protocols is ['linear', 'knn'] there and ['knn'] here"),
        ({"view_size": (4, 16, 18)}, "view_size is [4, 16, 17] there and [4, 16, 18] here"),
    ],
)
def test_another_run_is_refused_by_its_first_difference(
    knees: Path, run: Path, changes: dict[str, Any], difference: str
) -> None:
    before = contents(run)
    message = refused(RunError, knees, run, **changes)
    assert message == f"{run} holds another run: {difference}; choose another --out, or --fresh to begin anew"
    assert contents(run) == before


def test_a_folder_with_other_files_is_refused_and_left_alone(knees: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for fresh in (False, True):
        assert "holds other files (notes.txt) and no run" in refused(RunError, knees, tmp_path, fresh=fresh)
        assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_a_file_where_the_folder_should_be_is_refused(knees: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    assert "run cannot be written (File exists)" in refused(RunError, knees, tmp_path / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(knees: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "cannot be written (Permission denied)" in refused(RunError, knees, tmp_path / "run")


def test_a_file_system_that_cannot_be_written_is_refused(knees: Path) -> None:
    assert "/proc/run cannot be written (" in refused(RunError, knees, Path("/proc/run"))


def test_a_folder_that_another_process_works_on_is_refused(knees: Path, run: Path) -> None:
    with (run / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for fresh in (False, True):
            assert f"another process is working on {run}" in refused(RunError, knees, run, fresh=fresh)
    assert (run / "leaderboard.csv").exists()
    assert small_run(knees, run).failures == {}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"base": {}}', '{"base": 1, "cells": {}}', '{"base": {}, "cells": []}']
)
def test_a_damaged_plan_is_refused(knees: Path, run: Path, text: str) -> None:
    (run / "plan.json").write_text(text)
    message = refused(RunError, knees, run)
    assert str(run) in message
    assert "--fresh" in message


# Beginning anew


def test_fresh_deletes_what_a_run_wrote_and_nothing_else(knees: Path, run: Path) -> None:
    (run / "notes.txt").write_text("mine")
    (cell_folder(run, "byol") / "figure.png").write_text("mine")
    (run / "cells/mine").mkdir()
    (run / "cells/mine/notes.txt").write_text("mine")
    (run / "plan.json").write_text("{")  # a damaged one is no hindrance
    store = contents(run / "store")
    listener = Listener()
    small_run(knees, run, fresh=True, methods=("random",), progress=listener, pretrain__epochs=1)
    assert listener.started == ["random"]
    assert (run / "notes.txt").read_text() == "mine"
    assert [path.name for path in cell_folder(run, "byol").iterdir()] == ["figure.png"]
    assert (run / "cells/mine/notes.txt").read_text() == "mine"
    assert contents(run / "store") == store
    assert set(pd.read_csv(run / "leaderboard.csv")["method"]) == {"random"}


# Data


def test_changed_data_are_refused_before_any_cell_runs(knees: Path, run: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(knees, tmp_path / "changed"))
    volume = np.load(root / "train/sagittal/0003.npy")
    volume[0, 0, 0] ^= 1
    np.save(root / "train/sagittal/0003.npy", volume)
    before = contents(run / "cells")
    message = refused(RunError, root, run, methods=("simclr", "byol"))
    assert "was made from other data (fingerprint " in message
    assert contents(run / "cells") == before


def test_packing_that_is_broken_off_goes_on_and_the_folder_stays_this_runs(
    knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Quits(Listener):
        def advance(self, done: int, figures: Any) -> None:
            if done == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_run(knees, tmp_path / "run", progress=Quits())
    assert small_run(knees, tmp_path / "run", methods=("random",)).failures == {}


def test_a_data_set_that_was_mended_runs_in_the_same_folder(knees: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(("split", "message"), [("train", "at least two classes"), ("valid", None)])
def test_one_class_in_training_is_refused_before_pretraining_and_in_test_is_told(
    knees: Path, tmp_path: Path, split: str, message: str | None
) -> None:
    root = Path(shutil.copytree(knees, tmp_path / "data"))
    table = root / f"{split}-acl.csv"
    table.write_text(table.read_text().replace(",1", ",0"))
    if message:
        assert message in refused(DataError, root, tmp_path / "run")
        return
    outcome = small_run(root, tmp_path / "run", methods=("random",))
    assert outcome.failures == {}
    board = pd.read_csv(outcome.folder / "leaderboard.csv")
    assert board["auc"].isna().all()
    assert board["note"].str.contains("no auc: ").all()


# Devices and weights


def test_a_device_that_is_not_here_is_refused_before_anything_is_written(knees: Path, tmp_path: Path) -> None:
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
        (wrong_network, r"matched 1 of 100 tensors (1%)"),
    ],
)
def test_a_file_of_weights_that_does_not_do_is_refused_before_anything_runs(
    knees: Path, tmp_path: Path, write: Callable[[Path], object], message: str
) -> None:
    write(tmp_path / "weights.pth")
    options = {"backbones": ("r3d_18",), "view_size": (8, 32, 32), "weights": tmp_path / "weights.pth"}
    assert message in refused(WeightsError, knees, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_file_of_weights_that_no_cell_takes_is_refused(knees: Path, tmp_path: Path) -> None:
    assert "no cell of this run starts from" in refused(
        RecipeError, knees, tmp_path / "run", weights=tmp_path / "w.pth"
    )


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


def test_a_cell_that_fails_is_recorded_and_the_others_go_on(knees: Path, tmp_path: Path) -> None:
    methods = (broken(tmp_path, "ValueError('no\\nluck')"), "random")
    outcome = small_run(knees, tmp_path / "run", methods=methods)
    (name,) = outcome.failures
    told = "ValueError: no luck (traceback: error.txt in the cell's folder)"
    assert outcome.failures[name] == told
    folder = tmp_path / "run/cells" / name
    assert (read_result(folder)[0].status, read_result(folder)[0].reason) == ("failed", told)
    assert "Traceback" in (folder / "error.txt").read_text()
    board = pd.read_csv(tmp_path / "run/leaderboard.csv").set_index("method")
    assert set(board.loc["random", "status"]) == {"done"}
    assert set(board.loc[methods[0], "status"]) == {"failed"}
    assert "no luck" in board.loc[methods[0], "note"].iloc[0]


def test_a_failed_cell_is_tried_again_and_a_done_one_is_not(
    knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = execute_module.run_cell

    def sometimes(cell: Any, *rest: Any) -> Any:
        if cell.recipe.method == "byol":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return real(cell, *rest)

    monkeypatch.setattr(execute_module, "run_cell", sometimes)
    outcome = small_run(knees, tmp_path / "run")
    assert "smaller --micro-batch" in next(iter(outcome.failures.values()))
    monkeypatch.undo()
    listener = Listener()
    assert small_run(knees, tmp_path / "run", progress=listener).failures == {}
    assert listener.started == ["byol"]
    assert not (cell_folder(tmp_path / "run", "byol") / "error.txt").exists()
    assert (pd.read_csv(tmp_path / "run/leaderboard.csv")["status"] == "done").all()


def test_out_of_memory_of_any_kind_gives_the_hint() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    for error in (caught.value, MemoryError(), torch.OutOfMemoryError("CUDA out of memory")):
        assert reason(error).startswith("out of memory; set a smaller --micro-batch")
    assert reason(ValueError("x\n  y")).startswith("ValueError: x y (traceback: error.txt")
    assert reason(ValueError()).startswith("ValueError: no message (")
    assert reason(RunError("As it is.")) == "As it is."


def test_a_corrupt_checkpoint_fails_its_cell_and_is_named(knees: Path, tmp_path: Path) -> None:
    outcome = small_run(knees, tmp_path / "run", methods=(broken(tmp_path, "ValueError('x')"),), baselines=False)
    (name,) = outcome.failures
    checkpoint = tmp_path / "run/cells" / name / "checkpoint.pt"
    checkpoint.write_bytes(b"half")
    (message,) = small_run(
        knees, tmp_path / "run", methods=(f"{tmp_path}/broken.py:Broken",), baselines=False
    ).failures.values()
    assert message.startswith(f"{checkpoint} cannot be read as a checkpoint")


def test_a_damaged_result_is_named_and_nothing_runs(knees: Path, run: Path) -> None:
    path = cell_folder(run, "random") / "result.json"
    path.write_text(path.read_text()[:-20])
    assert str(path) in refused(RunError, knees, run)


def test_tables_are_there_after_the_first_cell(knees: Path, tmp_path: Path) -> None:
    class Quits(Listener):
        def cell_started(self, cell: str) -> None:
            super().cell_started(cell)
            if len(self.started) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_run(knees, tmp_path / "run", progress=Quits())
    for table in ("leaderboard.csv", "cells.csv"):
        assert set(pd.read_csv(tmp_path / "run" / table)["method"]) == {"byol"}


def test_interrupted_while_judging_it_goes_on_after_pretraining(knees: Path, finished: Path, tmp_path: Path) -> None:
    class Quits(Listener):
        def phase(self, cell: str, what: str, total: int, unit: str, done: int = 0) -> None:
            if what == "judging":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_run(knees, tmp_path / "run", progress=Quits())
    listener = Listener()
    small_run(knees, tmp_path / "run", progress=listener)
    assert any("going on after step 6" in note for note in listener.notes)
    assert left_behind(cell_folder(tmp_path / "run", "byol")) == left_behind(cell_folder(finished, "byol"))


def test_a_checkpoint_that_outlived_its_result_is_removed(knees: Path, run: Path) -> None:
    (cell_folder(run, "byol") / "checkpoint.pt").write_bytes(b"whatever")
    small_run(knees, run)
    assert not (cell_folder(run, "byol") / "checkpoint.pt").exists()


def test_seeds_are_aggregated(knees: Path, tmp_path: Path) -> None:
    small_run(knees, tmp_path / "run", methods=("random",), seeds=(0, 1))
    board = pd.read_csv(tmp_path / "run/leaderboard.csv")
    scores = pd.read_csv(tmp_path / "run/cells.csv").groupby("protocol")["auc"]
    assert list(board["seeds"]) == [2, 2]
    for row in board.to_dict("records"):
        assert row["auc"] == pytest.approx(scores.mean()[row["protocol"]])
        assert row["spread"] == pytest.approx(scores.std()[row["protocol"]])


def test_a_file_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "a.txt", "old")
    (tmp_path / ".a.txt.partial").write_text("left by a kill")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"a\.txt cannot be written \(No space left on device\)"):
        write_atomic(tmp_path / "a.txt", "new")
    assert contents(tmp_path) == {"a.txt": b"old"}

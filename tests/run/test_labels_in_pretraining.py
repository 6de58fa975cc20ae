"""A method that sees labels: of training volumes only, one encoder per task, and marked in every table."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.runs import Listener, encoder_folder, record, small_run, write_knees

METHODS = ("supervised", "simclr")
FIELDS: dict[str, Any] = {"controls": "none", "evaluate__protocols": "knn", "pretrain__epochs": 1}
SPY = """
from pathlib import Path
from ssl3d_plugins.methods.supervised import Supervised


class Spy(Supervised):
    def loss(self, batch):
        with Path({log!r}).open("a") as log:
            log.writelines(f"{{case}} {{label}}\\n" for case, label in zip(
                batch.rows["case"].tolist(), batch.rows["labels"].tolist(), strict=True))
        return super().loss(batch)

    needs = frozenset(("labels", "case"))
"""


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees")


@pytest.fixture(scope="module")
def finished(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of both methods on one task."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert small_run(knees, out, METHODS, **FIELDS).failures == {}
    return out


def relabelled(knees: Path, root: Path, table: str) -> Path:
    """Return a copy of the data in which every label of a table is the other one."""
    shutil.copytree(knees, root)
    rows = [line.split(",") for line in (root / table).read_text().split()]
    (root / table).write_text("".join(f"{case},{1 - int(label)}\n" for case, label in rows))
    return root


def test_another_task_is_another_pretraining_for_a_method_that_sees_labels_alone(
    knees: Path, finished: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    listener = Listener()
    assert small_run(knees, run, METHODS, listener, data__task="acl,meniscus", **FIELDS).failures == {}
    assert listener.pretrained == ["supervised"]
    assert len(list(run.glob("encoders/supervised-*"))) == 2
    assert len(list(run.glob("encoders/simclr-*"))) == 1


def test_the_tables_mark_a_method_that_saw_labels(finished: Path) -> None:
    board = pd.read_csv(finished / "leaderboard.csv").set_index("method")
    assert board["labels_used"].to_dict() == {"supervised": True, "simclr": False}
    lines = (finished / "leaderboard.md").read_text().splitlines()
    (marked,) = [line for line in lines if line.startswith("| knn") and "supervised" in line]
    (plain,) = [line for line in lines if line.startswith("| knn") and "simclr" in line]
    assert "labels" in marked
    assert "labels" not in plain
    for method, used in (("supervised", True), ("simclr", False)):
        assert record(encoder_folder(finished, method), "encoder")["labels_used"] is used


def test_labels_of_test_volumes_reach_no_encoder(knees: Path, finished: Path, tmp_path: Path) -> None:
    root = relabelled(knees, tmp_path / "knees", "valid-acl.csv")
    run = small_run(root, tmp_path / "run", METHODS, **FIELDS).folder
    for method in METHODS:
        folders = [encoder_folder(folder, method) for folder in (finished, run)]
        assert folders[0].name == folders[1].name
        files = [(folder / "encoder.safetensors").read_bytes() for folder in folders]
        assert files[0] == files[1]


def test_labels_of_training_volumes_decide_the_encoders_of_methods_that_see_them_alone(
    knees: Path, finished: Path, tmp_path: Path
) -> None:
    root = relabelled(knees, tmp_path / "knees", "train-acl.csv")
    run = small_run(root, tmp_path / "run", METHODS, **FIELDS).folder
    same = {method: encoder_folder(finished, method).name == encoder_folder(run, method).name for method in METHODS}
    assert same == {"supervised": False, "simclr": True}


def test_a_loss_sees_the_label_of_each_training_volume(knees: Path, tmp_path: Path) -> None:
    log, file = tmp_path / "log.txt", tmp_path / "spy.py"
    file.write_text(SPY.format(log=str(log)))
    assert small_run(knees, tmp_path / "run", (f"{file}:Spy",), **FIELDS).failures == {}
    seen = {tuple(map(int, line.split())) for line in log.read_text().splitlines()}
    labels = [int(line[-1]) for line in (knees / "train-acl.csv").read_text().split()]
    assert seen == set(enumerate(labels))

"""The commands leaderboard, compare and export on a run: each form of the tables; what is not a run is refused."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ssl3d.cli import run
from ssl3d.tables.columns import read_table
from ssl3d.tables.evaluations import COLUMNS as EVALUATION_COLUMNS
from ssl3d.tables.leaderboard import COLUMNS
from tests.records import evaluated, results, write_run
from tests.runs import encoder_folder, evaluation_folder, small_run, write_knees

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees")


@pytest.fixture(scope="module")
def finished(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of simclr and the random baseline."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    return small_run(knees, out, ("simclr",), pretrain__epochs=1).folder


def printed(capsys: Capture, *line: object) -> str:
    """Return what a command that succeeds prints."""
    assert run([str(word) for word in line]) == 0
    return capsys.readouterr().out


def refused(capsys: Capture, *line: object) -> str:
    """Return the sentence with which a command line is refused: exit code 2, one line, nothing else."""
    assert run([str(word) for word in line]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ")
    assert captured.err.count("\n") == 1
    return captured.err


# leaderboard


@pytest.mark.parametrize("form", ["table", "md", "csv", "latex", "svg"])
def test_leaderboard_prints_every_form(capsys: Capture, finished: Path, form: str) -> None:
    out = printed(capsys, "leaderboard", finished, "--format", form)
    assert "simclr" in out
    assert "random" in out
    if form == "csv":
        board = pd.read_csv(io.StringIO(out))
        pd.testing.assert_frame_equal(board, pd.read_csv(finished / "leaderboard.csv"), check_exact=True)
        assert list(board) == list(COLUMNS)
    if form in {"md", "table"}:
        assert out.strip() == (finished / "leaderboard.md").read_text().strip()
    if form == "latex":
        assert out.count("\\begin{tabular}") == out.count("\\end{tabular}") == 2  # the price, too
    if form == "svg":
        assert out.startswith("<svg")


def test_leaderboard_is_made_from_records_alone(capsys: Capture, finished: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "run"))
    whole = printed(capsys, "leaderboard", copy, "--format", "csv")
    for derived in (*copy.glob("*.csv"), *copy.glob("*.md")):
        derived.unlink()
    for needless in ("stores", "features", "leases"):
        shutil.rmtree(copy / needless)
    (encoder_folder(copy, "simclr") / "encoder.safetensors").unlink()
    assert printed(capsys, "leaderboard", copy, "--format", "csv") == whole


def test_leaderboard_takes_a_baseline(capsys: Capture, finished: Path) -> None:
    board = pd.read_csv(io.StringIO(printed(capsys, "leaderboard", finished, "--format=csv", "--baseline=random")))
    compared = board.set_index("method")["difference"]
    assert compared["simclr"].notna().all()
    assert compared["random"].isna().all()


# compare


def test_compare_prints_every_pair(capsys: Capture, finished: Path) -> None:
    out = printed(capsys, "compare", finished)
    rows = [line for line in out.splitlines() if line.startswith(("│ linear", "│ knn"))]
    assert len(rows) == 2 * 6  # of four methods
    assert sum("simclr" in row for row in rows) == 2 * 3
    assert "p (Holm)" in out


def test_compare_names_the_backbone_where_there_are_several(capsys: Capture, tmp_path: Path) -> None:
    other: dict[str, Any] = {
        "encoder_recipe": {"backbone": "r3d_18"},
        "encoder_fields": {"sources": {"backbone": "2f"}},
    }
    pair = [evaluated("byol"), evaluated("byol", noise=1, **other)]
    folder = write_run(tmp_path / "run", results(*pair, evaluated("simclr", noise=2)))
    out = printed(capsys, "compare", folder)
    assert all(name in out for name in ("byol on tiny", "byol on r3d_18", "simclr on tiny"))
    assert "(" not in out.replace("p (Holm)", "")  # the backbone distinguishes them, no hash is needed


def test_compare_takes_runs_on_the_same_data_and_refuses_others(
    capsys: Capture, finished: Path, knees: Path, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"controls": "none", "evaluate__protocols": "knn"}
    same = small_run(knees, tmp_path / "same", ("random",), seeds=(1,), **fields).folder
    assert "simclr" in printed(capsys, "compare", finished, same)
    other = small_run(knees, tmp_path / "other", ("random",), data__task="meniscus", **fields).folder
    message = refused(capsys, "compare", finished, other)
    assert message.startswith(f"Error: {finished} and {other}: runs cannot be compared: ")
    assert "task differs" in message


# export


def test_export_writes_one_row_per_evaluation_and_one_per_pair(capsys: Capture, finished: Path, tmp_path: Path) -> None:
    target = tmp_path / "new/evaluations.csv"
    assert f"{target}: 8 rows" in printed(capsys, "export", finished, "--to", target)
    table = read_table(target, EVALUATION_COLUMNS)
    assert list(table) == list(EVALUATION_COLUMNS)
    methods = ("random", "simclr", "statistics", "voxels")
    assert sorted(zip(table["method"], table["protocol"], strict=True)) == [
        (method, protocol) for method in methods for protocol in ("knn", "linear")
    ]
    assert len(pd.read_csv(tmp_path / "new/evaluations-pairs.csv")) == 2 * 6
    printed(capsys, "export", finished, "--to", tmp_path / "e.csv", "--pairs", tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "new/evaluations-pairs.csv").read_bytes()
    assert (tmp_path / "e.csv").read_bytes() == (finished / "evaluations.csv").read_bytes()


def test_export_prints_the_meaning_of_every_column(capsys: Capture) -> None:
    out = printed(capsys, "export", "--columns")
    for column in (*COLUMNS, *EVALUATION_COLUMNS):
        assert f"| {column} |" in out


# What is not a run


@pytest.mark.parametrize("command", ["leaderboard", "compare", "export"])
def test_tables_of_what_is_not_a_run_are_refused(capsys: Capture, tmp_path: Path, command: str) -> None:
    more = ["--to", tmp_path / "x.csv"] if command == "export" else []
    assert "is not a run folder" in refused(capsys, command, tmp_path / "none", *more)
    run_without_results = write_run(tmp_path / "run", results())
    assert "has no result yet" in refused(capsys, command, run_without_results, *more)
    (run_without_results / "plan.json").write_text("{}")
    assert "plan.json" in refused(capsys, command, run_without_results, *more)
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize("command", ["leaderboard", "compare", "export"])
def test_tables_of_an_edited_record_are_refused(capsys: Capture, finished: Path, tmp_path: Path, command: str) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "run"))
    more = ["--to", tmp_path / "x.csv"] if command == "export" else []
    path = evaluation_folder(copy, "simclr") / "evaluation.json"
    path.write_text(path.read_text().replace('"n_train": 12', '"n_train": 13'))
    assert f"{path} was changed" in refused(capsys, command, copy, *more)


def test_tables_of_edited_predictions_are_refused(capsys: Capture, finished: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "run"))
    path = evaluation_folder(copy, "simclr") / "predictions.csv"
    os.truncate(path, 40)
    assert f"{path} was changed" in refused(capsys, "leaderboard", copy)

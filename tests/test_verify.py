"""A run held against its own files: what was edited is named, by its field; what is sound is the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from ssl3d.audit.verdict import Verdict, same
from ssl3d.audit.verify import verify
from ssl3d.audit.verify_tables import verify_tables
from ssl3d.cli import run
from ssl3d.errors import RunError
from ssl3d.results.records import _content_hash, _sha256, read_result, write_result
from tests.cells import cell
from tests.runs import cell_folder, small_run, write_knees
from tests.test_schema import VERSION_1

Capture = pytest.CaptureFixture[str]
HALF = {"evaluate__labels": [0.5, 1.0], "evaluate__draws": 1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of simclr and the untrained encoder, with half of the labels, too."""
    folder = tmp_path_factory.mktemp("verify")
    return small_run(write_knees(folder / "knees"), folder / "run", methods=("simclr",), **HALF).folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("store", ".lock")))


def rewrite(cell: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change result.json, and its content hash with it: as someone would who knows how."""
    path = cell / "result.json"
    content = json.loads(path.read_text())
    change(content)
    content.pop("content_sha256")
    path.write_text(json.dumps({**content, "content_sha256": _content_hash(content)}))


def repredict(cell: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Change predictions.csv, and its hash in result.json with it."""
    table = read_result(cell)[1]
    assert table is not None
    text = change(table).to_csv(index=False, lineterminator="\n")
    (cell / "predictions.csv").write_text(text)
    rewrite(cell, lambda content: content.update(predictions_sha256=_sha256(text.encode())))


def found(folder: Path) -> dict[str, Verdict]:
    return {verdict.name.split("-", maxsplit=1)[0]: verdict for verdict in verify(folder)}


def fields(verdict: Verdict) -> set[str]:
    return {f"{difference.file} {difference.field}" for difference in verdict.differences}


def test_a_run_is_the_same_and_nothing_is_written(copied: Path, capsys: Capture) -> None:
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    assert run(["verify", str(copied)]) == 0
    lines = capsys.readouterr().out.splitlines()
    tables = ["leaderboard.csv", "comparisons.csv", "cells.csv", "leaderboard.md"]
    assert [line.partition("-")[0] for line in lines if line.startswith(("random", "simclr"))] == ["random", "simclr"]
    assert {f"{name}: same" for name in tables} <= set(lines)
    assert all(line.endswith(": same") for line in lines)
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


def test_several_runs_and_single_cells_are_taken(copied: Path, finished: Path, capsys: Capture) -> None:
    cell = cell_folder(copied, "simclr")
    assert run(["verify", str(cell), str(finished)]) == 0
    assert capsys.readouterr().out.count(f"{cell.name}: same") == 2


def test_a_folder_directly_below_the_root_is_no_run_and_one_sentence() -> None:
    with pytest.raises(RunError, match=r"^/proc is not a run folder"):
        verify(Path("/proc"))


def test_what_lies_beside_a_plan_is_no_cell_of_it(copied: Path) -> None:
    with pytest.raises(RunError, match="store/x is not a run folder"):
        verify(copied / "store" / "x")


def test_an_edited_table_of_training_cases_is_one_fault(copied: Path) -> None:
    path = cell_folder(copied, "simclr") / "training.csv"
    path.write_text(path.read_text() + " ")
    assert [str(path) in fault for fault in found(copied)["simclr"].faults] == [True]


def test_the_answer_can_be_had_as_json(copied: Path, capsys: Capture) -> None:
    rewrite(cell_folder(copied, "simclr"), lambda content: content["scores"]["knn"]["metrics"].update(auc=0.123))
    assert run(["verify", "--json", str(copied)]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["same"] is False
    (wrong,) = [checked for checked in answer["checked"] if not checked["sound"]]
    (difference,) = wrong["differences"]
    assert (difference["file"], difference["field"]) == ("result.json", "scores.knn.metrics.auc")
    assert difference["recorded"] == 0.123
    assert difference["recomputed"] != 0.123


@pytest.mark.parametrize("name", ["auc", "accuracy", "sensitivity", "brier", "ece", "mcc"])
def test_an_edited_score_is_named_with_what_it_should_be(copied: Path, name: str) -> None:
    cell = cell_folder(copied, "simclr")
    true = read_result(cell)[0].scores["linear"].metrics[name]
    assert true is not None
    rewrite(cell, lambda content: content["scores"]["linear"]["metrics"].update({name: true + 1e-6}))
    verdict = found(copied)["simclr"]
    (difference,) = verdict.differences
    assert difference.field == f"scores.linear.metrics.{name}"
    assert same(difference.recomputed, true)
    assert found(copied)["random"].sound


def test_an_edited_threshold_changes_what_is_made_from_it(copied: Path) -> None:
    rewrite(cell_folder(copied, "simclr"), lambda content: content["scores"]["linear"].update(threshold=-1.0))
    named = fields(found(copied)["simclr"])
    assert "result.json scores.linear.metrics.accuracy" in named
    assert "result.json scores.linear.metrics.auc" not in named


def test_an_edited_interval_and_an_edited_point_of_a_curve_are_named(copied: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["scores"]["knn"]["auc_interval"][1] += 0.01
        content["curve"][0]["score"]["metrics"]["brier"] += 0.01

    rewrite(cell_folder(copied, "simclr"), change)
    one, two = sorted(fields(found(copied)["simclr"]))
    assert one.startswith("result.json curve.0 (linear at labels=0.5")
    assert one.endswith("metrics.brier")
    assert two == "result.json scores.knn.auc_interval.1"


def test_an_edited_file_is_named_though_its_hash_was_left(copied: Path, capsys: Capture) -> None:
    cell = cell_folder(copied, "simclr")
    content = json.loads((cell / "result.json").read_text())
    content["scores"]["knn"]["metrics"]["auc"] = 0.99
    (cell / "result.json").write_text(json.dumps(content))
    text = (cell_folder(copied, "random") / "predictions.csv").read_text()
    (cell_folder(copied, "random") / "predictions.csv").write_text(text.replace(",1,", ",0,", 1))
    assert run(["verify", str(copied)]) == 1
    out = capsys.readouterr().out
    assert "result.json was changed after it was written" in out
    assert "scores.knn.metrics.auc: recorded 0.99, recomputed" in out
    assert "predictions.csv was changed after it was written" in out
    assert "tables: not checked: a cell is not sound" in out


def test_predictions_that_are_absent_or_not_scored_are_named(copied: Path) -> None:
    cell = cell_folder(copied, "simclr")
    rewrite(cell, lambda content: content["scores"].pop("knn"))
    assert any(fault.endswith("has no score for knn") for fault in found(copied)["simclr"].faults)
    repredict(cell, lambda table: table[table["protocol"] != "linear"])
    assert any(fault.endswith("has no row for linear") for fault in found(copied)["simclr"].faults)


def test_a_case_left_out_and_a_case_held_twice_are_named(copied: Path) -> None:
    cell = cell_folder(copied, "simclr")
    repredict(cell, lambda table: table.drop(table.index[0]))
    assert "result.json data.n_test" in fields(found(copied)["simclr"])
    repredict(cell, lambda table: table.assign(case=table["case"].iloc[0]))
    assert any("holds a case twice" in fault for fault in found(copied)["simclr"].faults)


def test_probabilities_that_are_none_are_named(copied: Path) -> None:
    repredict(cell_folder(copied, "simclr"), lambda table: table.assign(p_0=2.0))
    assert any("these are not probabilities" in fault for fault in found(copied)["simclr"].faults)


def test_a_cell_in_anothers_place_and_another_recipe_are_named(copied: Path) -> None:
    cell = cell_folder(copied, "simclr")
    rewrite(cell, lambda content: content["recipe"]["pretrain"].update(epochs=99))
    named = fields(found(copied)["simclr"])
    assert "result.json seed and hash of the recipe" in named
    assert f"plan.json cells.{cell.name}.pretrain.epochs" in named
    assert "encoder.safetensors hash of its pretraining" in named
    cell.rename(cell.with_name("byol-tiny-s0-0123456789"))
    assert "result.json cell" in fields(found(copied)["byol"])


def test_another_encoder_is_named(copied: Path) -> None:
    ours, theirs = (cell_folder(copied, name) / "encoder.safetensors" for name in ("simclr", "random"))
    shutil.copy(theirs, ours)
    assert fields(found(copied)["simclr"]) == {
        "encoder.safetensors its hash",
        "encoder.safetensors hash of its pretraining",
    }
    theirs.write_bytes(theirs.read_bytes()[:100])
    assert any("encoder.safetensors is damaged" in fault for fault in found(copied)["random"].faults)


def test_one_weight_changed_is_named(copied: Path) -> None:
    path = cell_folder(copied, "simclr") / "encoder.safetensors"
    recipe = read_result(path.parent)[0].recipe.canonical()
    state = load_file(path)
    next(iter(state.values())).flat[0] += 1
    save_file(state, path, metadata={"recipe": recipe})
    assert fields(found(copied)["simclr"]) == {"encoder.safetensors its hash"}


@pytest.mark.parametrize("table", ["leaderboard.csv", "comparisons.csv", "cells.csv"])
def test_an_edited_table_is_named_by_its_row_and_column(copied: Path, table: str) -> None:
    path = copied / table
    rows = path.read_text().splitlines()
    column = rows[0].split(",").index({"comparisons.csv": "difference"}.get(table, "auc"))
    values = rows[1].split(",")
    values[column] = "0.123"
    path.write_text("\n".join([rows[0], ",".join(values), *rows[2:], ""]))
    (difference,) = found(copied)[table].differences
    assert difference.field.startswith("row 1 (")
    assert difference.field.endswith(rows[0].split(",")[column])
    assert difference.recorded == 0.123


def test_a_table_with_a_row_or_column_less_and_other_markdown_are_named(copied: Path) -> None:
    board, cells, text = (copied / name for name in ("leaderboard.csv", "cells.csv", "leaderboard.md"))
    board.write_text("\n".join(board.read_text().splitlines()[:-1]))
    pd.read_csv(cells).drop(columns="mcc").to_csv(cells, index=False)
    text.write_text(text.read_text() + "ours is best")
    verdicts = found(copied)
    assert "has 3 rows, the results give 4" in verdicts["leaderboard.csv"].faults[0]
    assert "has other columns" in verdicts["cells.csv"].faults[0]
    assert "is not what the results give" in verdicts["leaderboard.md"].faults[0]


def test_edited_predictions_of_training_cases_are_named(copied: Path) -> None:
    training = cell_folder(copied, "simclr") / "training.csv"
    training.write_text(training.read_text().replace("0.", "0.1", 1))
    assert any("training.csv was changed" in fault for fault in found(copied)["simclr"].faults)


def test_curves_that_no_result_gives_are_named(tmp_path: Path) -> None:
    write_result(tmp_path / "cells" / "byol-tiny-s0", *cell())
    (tmp_path / "curves.csv").write_text("protocol\n")
    (fault,) = verify_tables(tmp_path, sound=True)[-2].faults
    assert fault.endswith("curves.csv is there, and the results give none; delete it")


def test_failed_unfinished_and_absent_cells_and_tables_are_said_and_no_fault(copied: Path, capsys: Capture) -> None:
    for name in ("leaderboard.csv", "comparisons.csv", "cells.csv", "curves.csv", "leaderboard.md"):
        (copied / name).unlink()
    (cell_folder(copied, "simclr") / "result.json").unlink()
    shutil.rmtree(cell_folder(copied, "random"))
    assert run(["verify", str(copied)]) == 0
    out = capsys.readouterr().out
    assert ": not finished" in out
    assert ": not started" in out


def test_a_failed_cell_gives_its_reason(tmp_path: Path, capsys: Capture) -> None:
    knees = write_knees(tmp_path / "knees")
    folder = small_run(knees, tmp_path / "run", baselines=False, pretrain__lr=1e30, pretrain__optimizer="sgd").folder
    assert run(["verify", str(folder)]) == 0
    assert ": failed: " in capsys.readouterr().out


def test_a_run_of_version_1_is_the_same_and_what_it_lacks_is_said(capsys: Capture) -> None:
    assert run(["verify", str(VERSION_1.parent)]) == 0
    out = capsys.readouterr().out
    assert "moco-tiny-s0-1ba96742b9: same" in out
    assert "written under schema version 1: it has no engine" in out


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: Capture) -> None:
    assert run(["verify", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err

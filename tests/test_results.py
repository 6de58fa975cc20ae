"""What a cell leaves on the disk: whole or absent, exact, and guarded against changes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ssl3d.errors import RunError
from ssl3d.recipe import Recipe
from ssl3d.results.files import write_atomic
from ssl3d.results.records import CellResult, Price, predictions_frame, read_result, read_results, write_result
from tests.cells import cell, failed


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    result, predictions = cell(notes=("warm-up clamped to 3 epochs",), departures=("no LARS",))
    write_result(tmp_path / "c", result, predictions)
    again, table = read_result(tmp_path / "c")
    assert again == result
    assert table is not None
    assert predictions is not None
    pd.testing.assert_frame_equal(table, predictions, check_exact=True)
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["predictions.csv", "result.json"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1), st.floats(0, 1)),
        min_size=1,
        max_size=8,
    )
)
def test_case_ids_and_floats_survive_the_file(tmp_path: Path, rows: list[tuple[str, float]]) -> None:
    ids, p = [row[0] for row in rows], np.array([row[1] for row in rows])
    predictions = predictions_frame(ids, np.zeros(len(rows), int), {"knn": np.stack([1 - p, p], axis=1)})
    write_result(tmp_path, cell()[0], predictions)
    table = read_result(tmp_path)[1]
    assert table is not None
    assert list(table["case"]) == ids
    assert (table["p_1"].to_numpy() == p).all()


@pytest.mark.parametrize("name", ["0007", "NA", "nan", "1e5", "", "a,b", 'say "no"', " x "])
def test_odd_case_ids_stay_texts(tmp_path: Path, name: str) -> None:
    write_result(tmp_path, cell()[0], predictions_frame([name], np.array([1]), {"knn": np.array([[0.5, 0.5]])}))
    table = read_result(tmp_path)[1]
    assert table is not None
    assert list(table["case"]) == [name]


def test_predictions_of_conditions_come_back_apart_from_those_of_all_labels(tmp_path: Path) -> None:
    result, table = cell()
    assert table is not None
    part = predictions_frame(["0000"], np.array([1]), {"knn": np.array([[0.25, 0.75]])}, "labels=0.1 draw=2")
    write_result(tmp_path, result, pd.concat([table, part], ignore_index=True))
    again = read_result(tmp_path)[1]
    assert again is not None
    assert set(table["condition"]) == {""}
    pd.testing.assert_frame_equal(again[again["condition"] == ""], table, check_exact=True)
    assert again[again["condition"] != ""]["p_1"].tolist() == [0.75]


def test_predictions_from_before_there_were_conditions_are_those_of_all_labels(tmp_path: Path) -> None:
    result, table = cell()
    assert table is not None
    write_result(tmp_path, result, table.drop(columns="condition"))
    pd.testing.assert_frame_equal(read_result(tmp_path)[1], table, check_exact=True)  # type: ignore[arg-type]


def test_a_failed_cell_has_a_reason_and_no_predictions(tmp_path: Path) -> None:
    result, _ = failed("moco", reason="weights cannot be downloaded")
    write_result(tmp_path, *cell())
    write_result(tmp_path, result, None)
    again, table = read_result(tmp_path)
    assert (again.reason, table) == ("weights cannot be downloaded", None)
    assert not (tmp_path / "predictions.csv").exists()


@pytest.mark.parametrize("field", ["scores", "recipe", "price", "content_sha256"])
def test_an_edited_result_is_named(tmp_path: Path, field: str) -> None:
    write_result(tmp_path, *cell())
    path = tmp_path / "result.json"
    content = json.loads(path.read_text())
    if field == "scores":
        content["scores"]["linear"]["metrics"]["auc"] += 1e-9
    elif field == "recipe":
        content["recipe"]["seed"] = 1
    elif field == "price":
        del content["price"]
    else:
        del content["content_sha256"]
    path.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"result\.json was changed after it was written"):
        read_result(tmp_path)


def test_reformatting_a_result_is_no_change(tmp_path: Path) -> None:
    write_result(tmp_path, *cell())
    path = tmp_path / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert read_result(tmp_path)[0] == cell()[0]


def test_edited_or_missing_predictions_are_named(tmp_path: Path) -> None:
    write_result(tmp_path, *cell())
    path = tmp_path / "predictions.csv"
    text = path.read_text()
    path.write_text(text[:-3])
    with pytest.raises(RunError, match=r"predictions\.csv was changed"):
        read_result(tmp_path)
    path.unlink()
    with pytest.raises(RunError, match=r"predictions\.csv cannot be read"):
        read_result(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\x00\x01"])
def test_a_damaged_result_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(RunError, match=r"result\.json is damaged"):
        read_result(tmp_path)


def test_an_unknown_schema_version_is_told(tmp_path: Path) -> None:
    write_result(tmp_path, *cell())
    path = tmp_path / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    with pytest.raises(RunError, match="schema version 99, this ssl3d reads 1 to 2"):
        read_result(tmp_path)


def test_an_absent_result_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"result\.json cannot be read"):
        read_result(tmp_path)


def test_results_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_result(tmp_path / name, *cell(method=name))
    (tmp_path / "unfinished").mkdir()
    assert [result.recipe.method for result, _ in read_results(tmp_path)] == ["a", "b"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "new \ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written"):
        write_atomic(tmp_path / "file" / "x.txt", "text")


def test_results_are_finite_closed_and_complete() -> None:
    with pytest.raises(ValidationError, match="finite"):
        Price(pretrain_seconds=float("nan"))
    with pytest.raises(ValidationError, match="needs its reason"):
        CellResult(cell="x", status="failed", recipe=Recipe(), finished_at="now")
    with pytest.raises(ValidationError, match="needs data, exactness and scores"):
        CellResult(cell="x", status="done", recipe=Recipe(), finished_at="now")
    with pytest.raises(ValidationError, match="frozen"):
        cell()[0].status = "failed"


def test_results_and_tables_load_neither_torch_nor_sklearn() -> None:
    modules = "results.records tables.leaderboard tables.comparisons tables.render tables.write tables.entries tables.standings"
    code = (
        f"import sys; [__import__(f'ssl3d.{{m}}') for m in {modules.split()}];"
        "bad = {'torch', 'sklearn', 'rich'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Every column of every CSV is described, in one text that is made from the tables' own definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from click.testing import CliRunner

from ssl3d.cli.export import export
from ssl3d.errors import RunError
from ssl3d.results.folder import PREDICTIONS
from ssl3d.results.predictions import to_csv
from ssl3d.tables.baseline import COLUMNS as BASELINE
from ssl3d.tables.columns import ColumnType, read_table, typed
from ssl3d.tables.dictionary import LOG_COLUMNS, OF_RUN, PREDICTION_COLUMNS, document
from ssl3d.tables.tables import Tables
from ssl3d.tables.write import TABLE_COLUMNS, write_tables
from ssl3d.task import Task
from tests.records import evaluated, results, write_run


def test_every_column_has_a_meaning() -> None:
    others = {"predictions": PREDICTION_COLUMNS, "log": LOG_COLUMNS, "baseline": BASELINE}
    for file, columns in {**TABLE_COLUMNS, **others}.items():
        assert [name for name, column in columns.items() if not column.meaning] == [], file
    assert set(OF_RUN) == set(TABLE_COLUMNS)


def test_the_command_prints_every_column_of_every_table() -> None:
    out = CliRunner().invoke(export, ["--columns"]).output
    assert out == document()
    for file, columns in TABLE_COLUMNS.items():
        part = out.partition(f"## {file}")[2].partition("## ")[0]
        assert [line.split(" | ")[0].removeprefix("| ") for line in part.splitlines()[4:] if line] == list(columns)


def test_what_is_written_has_the_columns_that_are_described(tmp_path: Path) -> None:
    grade = Task(name="grade", kind="ordinal", classes=("none", "some", "all"))
    names = ("byol", "simclr")
    both = [
        one
        for i, name in enumerate(names)
        for seed in range(2)
        for one in (
            evaluated(name, seed, noise=2 * i + seed),
            evaluated(name, seed, noise=2 * i + seed, target=grade, labels=np.arange(120) % 3, K=3),
        )
    ]
    found = results(*both, evaluated(recipe={"labels": 0.5}))
    write_tables(write_run(tmp_path, found), Tables(found))
    for file, columns in TABLE_COLUMNS.items():
        assert list(pd.read_csv(tmp_path / file)) == list(columns)
    predictions = tmp_path / "evaluations" / found.evaluated[0].record.name / PREDICTIONS
    assert list(pd.read_csv(predictions)) == [*list(PREDICTION_COLUMNS)[:-1], "p_0", "p_1"]


def test_texts_that_a_spreadsheet_would_run_come_back_from_a_table(tmp_path: Path) -> None:
    columns = {"method": ColumnType("str", "a text"), "auc": ColumnType("float64", "a number")}
    texts = ["=1+1", "-12", "'=1", "plain", None]
    table = typed([{"method": text, "auc": -0.5} for text in texts], columns)
    (tmp_path / "table.csv").write_text(to_csv(table))
    assert [line.partition(",")[0] for line in to_csv(table).splitlines()[1:]] == ["'=1+1", "'-12", "''=1", "plain", ""]
    pd.testing.assert_frame_equal(read_table(tmp_path / "table.csv", columns), table, check_exact=True)


def test_export_writes_evaluations_and_pairs(tmp_path: Path) -> None:
    found = results(*(evaluated(name, noise=i) for i, name in enumerate("abc")))
    run, target = write_run(tmp_path / "run", found), tmp_path / "out.csv"
    done = CliRunner().invoke(export, [str(run), "--to", str(target)])
    assert done.output == f"{target}: 3 rows\n{tmp_path}/out-pairs.csv: 3 rows\n"
    assert pd.read_csv(target)["evaluation"].tolist() == [one.record.name for one in found.evaluated]
    assert len(pd.read_csv(tmp_path / "out-pairs.csv")) == 3
    nothing = CliRunner().invoke(export, [str(write_run(tmp_path / "none", results())), "--to", str(target)])
    assert isinstance(nothing.exception, RunError)

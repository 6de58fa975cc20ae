"""Every column of every CSV is described, in one text that is made from the tables' own definitions."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from ssl3d.cli import run
from ssl3d.tables.baseline import COLUMNS as BASELINE
from ssl3d.tables.dictionary import LOG, OF_RUN, PREDICTIONS, document
from ssl3d.tables.write import TABLE_COLUMNS
from tests.runs import cell_folder, small_run, write_knees


def test_every_column_has_a_meaning() -> None:
    for file, columns in {**TABLE_COLUMNS, "predictions.csv": PREDICTIONS, "log.csv": LOG, "": BASELINE}.items():
        assert [name for name, column in columns.items() if not column.meaning] == [], file
    assert set(OF_RUN) == set(TABLE_COLUMNS)


def test_the_command_prints_every_column_of_every_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "--columns"]) == 0
    out = capsys.readouterr().out
    assert out == document()
    for file, columns in TABLE_COLUMNS.items():
        part = out.partition(f"## {file}")[2].partition("## ")[0]
        assert [line.split(" | ")[0].removeprefix("| ") for line in part.splitlines()[4:] if line] == list(columns)


def test_what_a_run_writes_has_the_columns_that_are_described(tmp_path: Path) -> None:
    knees = write_knees(tmp_path / "knees")
    half = {"evaluate__labels": [0.5, 1.0], "evaluate__draws": 1}
    folder = small_run(knees, tmp_path / "run", methods=("byol", "simclr"), baselines=False, **half).folder
    for file, columns in TABLE_COLUMNS.items():
        assert list(pd.read_csv(folder / file)) == list(columns)
    cell = cell_folder(folder, "simclr")
    named = [*list(PREDICTIONS)[:-1], "p_0", "p_1"]
    assert list(pd.read_csv(cell / "predictions.csv")) == named
    assert list(pd.read_csv(cell / "training.csv")) == named
    assert set(pd.read_csv(cell / "log.csv")) == set(LOG)

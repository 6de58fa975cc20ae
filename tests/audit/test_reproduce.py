"""A cell run again from its own record: the same numbers, or what differs and what may explain it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ssl3d.audit.compare_cells import circumstances

from ssl3d.audit.reproduce import reproduce, settled
from ssl3d.cli import run
from ssl3d.engine import Engine
from ssl3d.errors import RunError
from ssl3d.recipe import PretrainRecipe
from ssl3d.results.records import read_result, write_result
from ssl3d.run.options import Options
from tests.cells import cell
from tests.runs import cell_folder, small_run, write_knees
from tests.test_verify import rewrite

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of simclr."""
    folder = tmp_path_factory.mktemp("reproduce")
    knees = write_knees(folder / "knees")
    return small_run(knees, folder / "run", methods=("simclr",), baselines=False).folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("store", ".lock"))
    return cell_folder(tmp_path / "run", "simclr")


def test_a_cell_comes_out_the_same_beside_its_run_and_is_not_run_twice(copied: Path, capsys: Capture) -> None:
    assert run(["reproduce", str(copied), "--device", "cpu", "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    made = copied.parents[2] / f"reproduce-{copied.name}" / "cells" / copied.name
    parts = [f"{copied.name}, {part}: same" for part in ("encoder", "predictions", "scores")]
    assert lines == [*parts, f"{copied.name}: reproduced, run again in {made}"]
    written = (made / "result.json").stat().st_mtime_ns
    assert run(["reproduce", str(copied), "--device", "cpu", "--quiet"]) == 0
    assert (made / "result.json").stat().st_mtime_ns == written


def test_what_differs_is_said_with_the_largest_difference_and_what_may_explain_it(
    copied: Path, capsys: Capture, tmp_path: Path
) -> None:
    def change(content: dict[str, Any]) -> None:
        content["scores"]["knn"]["metrics"]["brier"] += 0.25
        content["versions"]["torch"] = "0.1"
        content["price"]["device"] = "an abacus"
        content["data"]["fingerprint"] = "f00d"

    rewrite(copied, change)
    line = ["reproduce", str(copied), "--device", "cpu", "--quiet", "--out", str(tmp_path / "again")]
    assert run(line) == 1
    out = capsys.readouterr().out
    assert "encoder: same" in out
    assert "scores: different (largest difference 0.25, knn brier)" in out
    assert "torch was 0.1 and is " in out
    assert "hardware was an abacus and is " in out
    assert "the data are others: their fingerprint was f00d and is " in out
    assert ": not reproduced, run again in " in out


def test_the_files_are_found_by_the_plan_or_asked_for(copied: Path) -> None:
    plan = copied.parents[1] / "plan.json"
    content = json.loads(plan.read_text())
    assert Path(content["root"]).name == "knees"
    plan.write_text(json.dumps(content | {"root": None}))
    with pytest.raises(Exception, match="mrnet needs --root"):
        reproduce(copied, Options(device="cpu"))


def test_what_cannot_be_reproduced_is_refused(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no finished cell"):
        reproduce(tmp_path, Options())
    with pytest.raises(RunError, match="holds the cell that is to be reproduced"):
        reproduce(copied, Options(out=copied.parents[1]))
    rewrite(copied, lambda content: content["recipe"].update(sources={"weights": "0123456789abcdef"}))
    with pytest.raises(RunError, match=r"started from a local file of weights .* give it: --weights"):
        reproduce(copied, Options())
    (tmp_path / "other.pth").write_text("other")
    with pytest.raises(RunError, match=r"weights of hash 0123456789abcdef, and .* is another one"):
        reproduce(copied, Options(weights=tmp_path / "other.pth"))
    rewrite(copied, lambda content: content["recipe"].update(sources={"gone.py:Method": "0123456789abcdef"}))
    with pytest.raises(RunError, match=r"gone\.py is not there"):
        reproduce(copied, Options())
    rewrite(copied, lambda content: content.update(status="failed", reason="out of memory"))
    with pytest.raises(RunError, match=r"failed \(out of memory\): it has no numbers"):
        reproduce(copied, Options())


def test_what_trials_decided_is_not_tried_again() -> None:
    result, _ = cell(
        recipe={"pretrain": {"micro_batch": "auto", "precision": "auto", "channels_last": "auto", "compile": False}},
        engine=Engine(micro_batch=4, keep=2, precision="bf16-mixed", channels_last=True),
    )
    found = settled(result).pretrain
    assert found == PretrainRecipe(micro_batch=4, keep=2, precision="bf16-mixed", channels_last=True)


def test_a_recipe_that_left_nothing_open_stays_as_it_was() -> None:
    result, _ = cell(engine=Engine(micro_batch=64))
    assert settled(result) == result.recipe


def test_only_circumstances_that_changed_are_told(tmp_path: Path) -> None:
    write_result(tmp_path, *cell())
    result, _ = read_result(tmp_path)
    assert list(circumstances(result, result)) == []
    other = result.model_copy(update={"versions": {**result.versions, "numpy": "3"}})
    assert list(circumstances(result, other)) == ["numpy was not there and is 3"]

"""The published schema of result.json, and results of earlier versions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ssl3d.errors import RunError
from ssl3d.results.records import SCHEMA_VERSION, CurvePoint, ProtocolScore, read_content, read_result, write_result
from ssl3d.results.schema import generated, published
from tests.cells import cell, failed

ROOT = Path(__file__).resolve().parents[1]
VERSION_1 = Path(__file__).parent / "version_1" / "cells"  # moco, with fine-tuning, written by ssl3d before version 2


def check(content: dict[str, Any], version: int = SCHEMA_VERSION) -> None:
    jsonschema.Draft202012Validator(published(version)).validate(content)


def old_cell() -> Path:
    (folder,) = VERSION_1.iterdir()
    return folder


def test_the_published_schema_is_what_the_model_gives() -> None:
    path = ROOT / "ssl3d" / "runs" / "schema" / f"result-{SCHEMA_VERSION}.json"
    assert path.read_text("utf-8") == generated(), f"write it again: python -m ssl3d.results.schema > {path}"


def test_the_command_in_contributing_prints_the_schema() -> None:
    assert "python -m ssl3d.results.schema > ssl3d/results/schema/result-" in (ROOT / "CONTRIBUTING.md").read_text(
        "utf-8"
    )
    done = subprocess.run([sys.executable, "-m", "ssl3d.results.schema"], capture_output=True, text=True, check=True)
    assert done.stdout == generated()


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_every_version_is_published_as_a_sound_schema_with_its_number(version: int) -> None:
    schema = published(version)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema_version"]["const"] == version
    assert schema["$id"].endswith(f":{version}")


def test_every_field_of_a_result_is_described() -> None:
    schema = published()
    records = [schema, *(schema["$defs"][name] for name in ("DataRecord", "ProtocolScore", "Price", "CurvePoint"))]
    bare = [name for record in records for name, field in record["properties"].items() if not field.get("description")]
    assert bare == []


@pytest.mark.parametrize("which", ["done", "failed", "curve", "three classes"])
def test_every_result_that_is_written_keeps_to_the_schema(tmp_path: Path, which: str) -> None:
    result, predictions = {
        "done": cell,
        "failed": lambda: failed("moco"),
        "curve": lambda: cell(curve=(curve_point(),)),
        "three classes": lambda: cell(K=3),
    }[which]()
    write_result(tmp_path, result, predictions)
    check(read_content(tmp_path))


def curve_point() -> CurvePoint:
    score = ProtocolScore(metrics={"auc": None}, reasons={"auc": "one class"}, threshold=0.5)
    return CurvePoint(condition="labels=0.1 draw=0", protocol="knn", labels=0.1, draw=0, n_train=3, score=score)


@pytest.mark.parametrize(
    ("field", "value"),
    [("status", "half done"), ("exactness", "nearly"), ("recipe", {"seed": -1}), ("schema_version", 1), ("auc", 0.9)],
)
def test_the_schema_refuses_what_no_result_holds(tmp_path: Path, field: str, value: object) -> None:
    write_result(tmp_path, *cell())
    with pytest.raises(jsonschema.ValidationError):
        check(read_content(tmp_path) | {field: value})


def test_a_result_of_version_1_keeps_to_its_own_schema_and_loads() -> None:
    content = read_content(old_cell())
    check(content, 1)
    result, predictions = read_result(old_cell())
    assert result.schema_version == SCHEMA_VERSION
    assert result.recipe.method == "moco"
    assert result.recipe.evaluate.inner_folds == content["recipe"]["evaluate"]["folds"]
    assert result.recipe.evaluate.finetune_lr == (content["recipe"]["evaluate"]["finetune_lr"],)
    assert result.recipe.evaluate.finetune_crops == 1
    assert {name: score.metrics for name, score in result.scores.items()} == {
        name: score["metrics"] for name, score in content["scores"].items()
    }
    assert set(result.scores) == {"linear", "knn", "finetune"}
    assert (result.engine, result.curve) == (None, ())
    assert predictions is not None
    assert set(predictions["condition"]) == {""}


def test_a_result_of_a_newer_version_says_so(tmp_path: Path) -> None:
    write_result(tmp_path, *cell())
    path = tmp_path / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(RunError, match=rf"newer ssl3d \(schema version {SCHEMA_VERSION + 1}, .* update ssl3d"):
        read_result(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": "two"}))
    with pytest.raises(RunError, match="schema version 'two', this ssl3d reads 1 to 2"):
        read_result(tmp_path)

"""``ssl3d compare``: comparable runs are put together, others refused with the reason, naming runs and cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ssl3d.cli import run
from ssl3d.results.records import CurvePoint, ProtocolScore, write_result
from tests.cells import LABELS, cell

Capture = pytest.CaptureFixture[str]
TUNED = {"protocols": ("linear", "finetune")}


def run_of(folder: Path, method: str, noise: int = 0, **fields: Any) -> str:
    """Write a run of one finished cell."""
    result, predictions = cell(method, noise=noise, **fields)
    write_result(folder / "cells" / result.cell, result, predictions)
    (folder / "plan.json").write_text('{"base": {}, "cells": {}}')
    return str(folder)


def point(n_train: int) -> CurvePoint:
    score = ProtocolScore(metrics={"auc": 0.7}, threshold=0.5)
    named = {"condition": "positives=0.2 draw=0", "protocol": "linear", "positives": 0.2}
    return CurvePoint(**named, labels=0.5, draw=0, n_train=n_train, n_positive=4, score=score)


def test_runs_on_the_same_data_are_compared(tmp_path: Path, capsys: Capture) -> None:
    assert run(["compare", run_of(tmp_path / "a", "byol"), run_of(tmp_path / "b", "simclr", 1)]) == 0
    out = capsys.readouterr().out
    assert "byol" in out
    assert "simclr" in out


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        ({}, {"data": {"fingerprint": "beef"}}, "data fingerprint differs ('f00d' and 'beef')"),
        ({}, {"data": {"n_train": 299}}, "split (training volumes) differs (300 and 299)"),
        ({}, {"labels": LABELS[:118]}, "split (test volumes) differs (120 and 118)"),
        ({}, {"ids": [f"x{i}" for i in range(120)]}, "is in its test set or the others', not both"),
        ({}, {"labels": 1 - LABELS}, "its label of case '0000' differs from the others'"),
        ({}, {"data": {"task": "meniscus"}}, "task differs ('acl' and 'meniscus')"),
        ({}, {"data": {"plane": "axial"}}, "plane differs ('sagittal' and 'axial')"),
        ({}, {"recipe": {"evaluate": {"inner_folds": 3}}}, "evaluate.inner_folds differs (5 and 3)"),
        *(
            (
                {"recipe": {"evaluate": TUNED}},
                {"recipe": {"evaluate": {**TUNED, name: value}}},
                f"evaluate.{name} differs",
            )
            for name, value in {
                "finetune_epochs": 7,
                "finetune_lr": (0.5,),
                "finetune_batch_size": 7,
                "finetune_balance": "none",
                "finetune_crops": 1,
            }.items()
        ),
        ({"curve": (point(20),)}, {"curve": (point(30),)}, "number of labels used at positives=0.2 draw=0 differs"),
    ],
)
def test_what_is_not_comparable_is_refused_in_one_sentence_that_names_the_runs(
    tmp_path: Path, capsys: Capture, here: dict[str, Any], there: dict[str, Any], said: str
) -> None:
    a, b = run_of(tmp_path / "a", "byol", **here), run_of(tmp_path / "b", "simclr", 1, **there)
    assert run(["compare", a, b]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"Error: {a} and {b}: ")
    assert said in error
    assert error.count("\n") == 1
    if "runs cannot be compared" not in error:
        assert "simclr-tiny-s0" in error


def test_of_several_runs_the_two_that_do_not_fit_are_named(tmp_path: Path, capsys: Capture) -> None:
    a, b = run_of(tmp_path / "a", "byol"), run_of(tmp_path / "b", "simclr", 1)
    c = run_of(tmp_path / "c", "moco", 2, data={"fingerprint": "beef"})
    assert run(["compare", a, b, c]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"Error: {a} and {c}: cells byol-tiny-s0 and moco-tiny-s0 cannot be compared: ")

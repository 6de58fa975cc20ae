"""``ssl3d compare``: comparable runs are put together, others refused with the reason, naming runs and evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ssl3d.cli.compare import compare
from ssl3d.errors import RunError
from tests.records import LABELS, evaluated, results, write_run


def run_of(folder: Path, method: str, noise: int = 0, **fields: Any) -> str:
    """Write a run of one complete evaluation."""
    return str(write_run(folder, results(evaluated(method, noise=noise, **fields))))


def compared(*runs: str) -> Result:
    return CliRunner().invoke(compare, runs)


def refusal(*runs: str) -> str:
    found = compared(*runs)
    assert isinstance(found.exception, RunError), found.output
    return str(found.exception)


def test_runs_on_the_same_data_are_compared(tmp_path: Path) -> None:
    found = compared(run_of(tmp_path / "a", "byol"), run_of(tmp_path / "b", "simclr", 1))
    assert found.exit_code == 0
    assert "byol" in found.output
    assert "simclr" in found.output
    assert "cannot be separated" in found.output


def test_an_evaluation_that_two_runs_hold_counts_once(tmp_path: Path) -> None:
    found = compared(run_of(tmp_path / "a", "byol"), run_of(tmp_path / "b", "byol"))
    assert found.exit_code == 0
    assert "There is no pair to compare" in found.output


def test_a_run_alone_is_compared_within(tmp_path: Path) -> None:
    run = write_run(tmp_path, results(*(evaluated(name, noise=i) for i, name in enumerate("abc"))))
    assert compared(str(run)).output.count(" linear ") == 3


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        ({}, {"data": {"fingerprint": "beef"}}, "data fingerprint differs ('f00d' and 'beef')"),
        ({}, {"data": {"n_train": 299}}, "number of training cases differs (300 and 299)"),
        ({}, {"labels": LABELS[:118]}, "number of test cases differs (120 and 118)"),
        ({}, {"ids": [f"x{i}" for i in range(120)]}, "is in its test set or in that of the others, not in both"),
        ({}, {"labels": 1 - LABELS}, "its label of case '0000' differs from that of the others"),
        ({}, {"target": "meniscus"}, "task differs ('acl' and 'meniscus')"),
        ({}, {"plane": "axial"}, "plane differs ('sagittal' and 'axial')"),
        ({}, {"recipe": {"data": "knees"}}, "data set differs ('demo' and 'knees')"),
        ({}, {"recipe": {"inner_folds": 3}}, "number of inner folds differs (5 and 3)"),
        *(
            (
                {"protocol": "finetune"},
                {"protocol": "finetune", "recipe": {"protocol_config": {name: value}}},
                f"finetune.{name} differs (None and {value!r})",
            )
            for name, value in {"epochs": 7, "lr": [0.5], "balance": "none"}.items()
        ),
        (
            {"recipe": {"labels": 0.5}, "n_positive": 20},
            {"recipe": {"labels": 0.5}, "n_positive": 30},
            "number of labels used differs ((150, 20) and (150, 30))",
        ),
    ],
)
def test_what_is_not_comparable_is_refused_in_one_sentence_that_names_the_runs(
    tmp_path: Path, here: dict[str, Any], there: dict[str, Any], said: str
) -> None:
    a, b = run_of(tmp_path / "a", "byol", **here), run_of(tmp_path / "b", "simclr", 1, **there)
    error = refusal(a, b)
    assert error.startswith(f"{a} and {b}: ")
    assert said in error
    assert "\n" not in error
    if "runs cannot be compared" not in error:
        assert "/simclr-tiny-s0-" in error


def test_of_several_runs_the_two_that_do_not_fit_are_named(tmp_path: Path) -> None:
    a, b = run_of(tmp_path / "a", "byol"), run_of(tmp_path / "b", "simclr", 1)
    c = run_of(tmp_path / "c", "moco", 2, data={"fingerprint": "beef"})
    error = refusal(a, b, c)
    assert error.startswith(f"{a} and {c}: evaluations demo-acl/byol-tiny-s0-")


def test_a_folder_that_is_no_run_or_has_no_result_is_refused(tmp_path: Path) -> None:
    assert "is not a run folder" in refusal(str(tmp_path))
    assert "has no result yet; run its `ssl3d bench` command to the end" in refusal(str(write_run(tmp_path, results())))

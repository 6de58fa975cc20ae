"""Several volumes per patient: folds and label draws never divide a patient, in encoders or evaluations."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ssl3d.results.read import read_results
from ssl3d.results.results import Evaluated, Results
from tests.run.watched import Watcher, watched, write_folder
from tests.runs import small_run

FOLDS, PATIENTS = 3, 12
SETTINGS: dict[str, Any] = {"data__name": "folder", "data__folds": FOLDS, "controls": "none", "pretrain__epochs": 1}
SETTINGS |= {"pretrain__batch_size": 6}  # which leaves no single volume over in any fold: every one is read
SETTINGS |= {"evaluate__protocols": "linear", "evaluate__labels": (0.5,), "evaluate__draws": 1}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve patients with two or three volumes each, and one whose only volume is unlabelled."""
    rows = [
        f"p{patient:02d}-{volume}.npy,P{patient},{patient % 2}"
        for volume in range(3)
        for patient in range(PATIENTS)
        if volume < 2 + patient % 2
    ]
    return write_folder(tmp_path_factory.mktemp("data") / "scans", [*rows, "u.npy,U,"], "path,patient,lesion")


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Watcher, Path]:
    """A cross-validated run of simclr, and what its artifacts read."""
    out = tmp_path_factory.mktemp("runs") / "run"
    with watched() as watcher:
        assert small_run(root, out, ("simclr",), watcher, **SETTINGS).failures == {}
    return read_results(out), watcher, out


@pytest.fixture(scope="module")
def whole(run: tuple[Results, Watcher, Path]) -> dict[int, Evaluated]:
    """Evaluations with all labels by their fold."""
    return {one.record.recipe.fold: one for one in run[0].evaluated if not one.record.recipe.condition}


def test_every_patient_is_tested_in_one_fold_with_all_volumes(whole: dict[int, Evaluated]) -> None:
    assert sorted(whole) == list(range(FOLDS))
    volumes = defaultdict(list)
    for fold, one in whole.items():
        for case, patient in zip(one.predictions["case"], one.predictions["patient"], strict=True):
            volumes[patient].append((fold, case))
    assert {patient: len(found) for patient, found in volumes.items()} == {
        f"P{patient}": 2 + patient % 2 for patient in range(PATIENTS)
    }
    assert all(len({fold for fold, _ in found}) == 1 for found in volumes.values())


def test_an_evaluation_learns_from_no_volume_of_a_tested_patient(whole: dict[int, Evaluated]) -> None:
    for one in whole.values():
        assert one.training is not None
        tested, learnt = set(one.predictions["patient"]), set(one.training["patient"])
        assert not tested & learnt
        assert len(tested | learnt) == PATIENTS


def test_an_encoder_is_pretrained_on_no_volume_of_a_tested_patient_and_on_all_others(
    run: tuple[Results, Watcher, Path], whole: dict[int, Evaluated]
) -> None:
    watcher = run[1]
    assert len(watcher.losses) == FOLDS
    for fold, one in whole.items():
        assert one.training is not None
        (label,) = [label for label in watcher.losses if label.endswith(f"fold {fold}")]
        read = {case for _, case in watcher.reads[label]}
        assert not read & set(one.predictions["case"])
        assert read == {*one.training["case"], "u.npy"}  # the unlabelled volume is pretrained on, too
        corpus = one.encoder.corpus
        assert corpus is not None
        assert (corpus.volumes, corpus.excluded) == (len(read), 0)


def test_a_share_of_the_labels_takes_whole_patients(
    run: tuple[Results, Watcher, Path], whole: dict[int, Evaluated]
) -> None:
    parts = [one for one in run[0].evaluated if one.record.recipe.condition]
    assert len(parts) == FOLDS
    for one in parts:
        everything = whole[one.record.recipe.fold].training
        assert one.training is not None
        assert everything is not None
        patients = set(one.training["patient"])
        assert len(patients) == everything["patient"].nunique() / 2
        expected = everything[everything["patient"].isin(patients)]
        assert list(one.training["case"]) == list(expected["case"])


def test_the_tables_count_patients_and_folds(run: tuple[Results, Watcher, Path]) -> None:
    board = pd.read_csv(run[2] / "leaderboard.csv")
    (row,) = board.to_dict("records")
    assert (row["folds"], row["n_test_patients"], row["n_test"], row["seeds"]) == (FOLDS, PATIENTS, 30, 1)
    assert row["patients_known"]
    rows = pd.read_csv(run[2] / "evaluations.csv")
    assert sorted(rows["fold"]) == sorted(2 * list(range(FOLDS)))

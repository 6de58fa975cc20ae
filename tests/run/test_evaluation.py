"""What an evaluation reads and uses: every part of the labels and no other; test volumes stay unseen until then."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ssl3d.data.store import Store
from ssl3d.errors import DataError
from ssl3d.protocol import FeatureProblem, FeatureProtocol
from ssl3d.results.feature_file import unpack_features
from ssl3d.results.read import read_plan, read_results
from ssl3d.results.results import Evaluated
from ssl3d.run.planning.plan import protocol_class
from tests.run.watched import Watcher, watched, write_folder
from tests.runs import Listener, encoder_folder, evaluation_folder, small_run, write_knees

METHODS = ("byol", "moco", "simclr")
PARTS: dict[str, Any] = {"evaluate__labels": (0.5, 1.0), "evaluate__imbalance": (0.5, 0.25), "evaluate__draws": 2}
CONDITIONS = [
    "", *(f"{part} draw={draw}" for part in ("labels=0.5", "positives=0.25", "positives=0.5") for draw in range(2)),
]  # fmt: skip


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees", cases=(24, 9))


@pytest.fixture(scope="module")
def parts(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the untrained encoder, evaluated with all labels and with parts of them."""
    return small_run(knees, tmp_path_factory.mktemp("runs") / "parts", ("random",), controls="none", **PARTS).folder


def stored(run: Path) -> Store:
    (folder,) = read_plan(run).stores.values()
    return Store.open(Path(folder))


def used(one: Evaluated) -> list[str]:
    """Ids of the training cases whose labels an evaluation used."""
    assert one.training is not None
    return list(one.training["case"])


# Parts of the labels


@pytest.mark.parametrize("name", ["linear", "knn"])
def test_an_evaluation_learns_from_its_part_of_the_labels_alone_and_predicts_every_test_case(
    parts: Path, name: str
) -> None:
    store = stored(parts)
    index = {case: number for number, case in enumerate(store.ids(range(len(store))))}
    test, task = store.labelled("test", "acl"), store.task("acl")
    (file,) = parts.glob("features/*/features.npz")
    with np.load(file) as arrays:
        features = unpack_features(arrays)  # (N, F_r) by read-out
    evaluated = [one for one in read_results(parts).evaluated if one.record.recipe.protocol == name]
    found = {one.record.recipe.condition: one for one in evaluated}
    assert sorted(found) == sorted(CONDITIONS)
    protocol = protocol_class(name)()
    assert isinstance(protocol, FeatureProtocol)
    for one in found.values():
        train = [index[case] for case in used(one)]
        y, patients = store.targets("acl", train), np.array(store.patients(train))
        x = features[one.record.readout]
        again = protocol.predict(FeatureProblem(x[train], y, x[test], task, patients, folds=2, seed=0))
        assert one.record.readout in one.record.recipe.readouts == ("last", "multi")
        assert list(one.predictions["case"]) == store.ids(test)
        np.testing.assert_allclose(one.predictions["p_1"], again.probabilities[:, 1], rtol=1e-9)
        assert one.record.score.threshold == again.threshold
        assert (one.record.n_labels, one.record.n_positive) == (len(train), y.sum())


def test_parts_have_the_size_and_prevalence_that_they_say_and_all_methods_have_the_same(parts: Path) -> None:
    store = stored(parts)
    y = store.targets("acl", store.labelled("train", "acl"))
    sizes = {one.record.recipe.condition: (one.record.n_labels, one.record.n_positive)
             for one in read_results(parts).evaluated}  # fmt: skip
    assert sizes[""] == (len(y), y.sum())
    half = round(0.5 * (y == 0).sum()), round(0.5 * (y == 1).sum())
    assert sizes["labels=0.5 draw=0"] == sizes["labels=0.5 draw=1"] == (sum(half), half[1])
    (n,) = {sizes[name][0] for name in sizes if name.startswith("positives")}
    for share in (0.25, 0.5):
        assert sizes[f"positives={share} draw=0"] == (n, round(share * n))
    found = read_results(parts).evaluated
    drawn = {(one.record.recipe.condition, one.record.recipe.protocol): used(one) for one in found}
    for condition in CONDITIONS:
        assert drawn[condition, "linear"] == drawn[condition, "knn"]
    assert drawn["labels=0.5 draw=0", "knn"] != drawn["labels=0.5 draw=1", "knn"]


def test_parts_of_the_labels_are_rows_of_the_curves_and_not_of_the_leaderboard(parts: Path) -> None:
    curves, board = pd.read_csv(parts / "curves.csv"), pd.read_csv(parts / "leaderboard.csv")
    assert len(board) == 2
    points = [(condition, share) for condition, share in zip(curves["condition"], curves["share"], strict=True)]
    assert sorted(points) == sorted(2 * [("labels", 0.5), ("labels", 1.0), ("positives", 0.25), ("positives", 0.5)])


def test_fine_tuning_with_a_part_of_the_labels_reads_no_other_training_volume(knees: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"evaluate__protocols": "finetune", "evaluate__labels": (0.5,), "evaluate__draws": 1}
    settings |= {"protocol__finetune__epochs": 1, "protocol__finetune__lr": 0.001, "controls": "none"}
    with watched() as watcher:
        run = small_run(knees, tmp_path / "run", ("random",), watcher, **settings).folder
    assert not (run / "features").exists()  # no protocol needed any
    store = stored(run)
    train, test = (set(store.ids(store.labelled(split, "acl"))) for split in ("train", "test"))
    assert watcher.ids("finetune, labels=0.5 draw=0") > test
    read = watcher.ids("finetune, labels=0.5 draw=0") - test
    part = next(one.record for one in read_results(run).evaluated if one.record.recipe.condition)
    assert read < train
    assert len(read) == part.n_labels == round(0.5 * 24)


def test_labels_too_few_for_the_shares_of_positives_are_refused_before_anything_is_made(
    knees: Path, tmp_path: Path
) -> None:
    listener = Listener()
    with pytest.raises(DataError, match=r"are too few for shares of positives of 0\.5, 0\.001"):
        small_run(knees, tmp_path / "run", ("random",), listener, evaluate__imbalance=(0.5, 0.001))
    assert listener.started_list == []
    assert not list((tmp_path / "run").glob("e*/*"))


# Test volumes and pretraining


@pytest.fixture(scope="module")
def trained(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Watcher]:
    """A run of methods that train, and what it read."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    with watched() as watcher:
        small_run(knees, out, METHODS, watcher, controls="none", evaluate__protocols="knn")
    return out, watcher


def test_pretraining_reads_every_training_volume_and_no_test_volume(trained: tuple[Path, Watcher]) -> None:
    run, watcher = trained
    store = stored(run)
    train, test = (set(store.ids(store.indices(split))) for split in ("train", "test"))
    assert len(watcher.losses) == len(METHODS)
    for label in watcher.losses:
        assert {case for _, case in watcher.reads[label]} == train
    features = [label for label in watcher.started_list if "features of" in label]
    assert len(features) == len(METHODS)
    for label in features:  # the watcher sees what is read
        assert {case for _, case in watcher.reads[label]} == train | test


def test_encoders_are_the_same_to_the_bit_whatever_the_test_volumes_are(
    knees: Path, trained: tuple[Path, Watcher], tmp_path: Path
) -> None:
    root = Path(shutil.copytree(knees, tmp_path / "knees"))
    for path in (root / "valid").rglob("*.npy"):
        np.save(path, 255 - np.load(path))
    run = small_run(root, tmp_path / "run", METHODS, controls="none", evaluate__protocols="knn").folder
    for method in METHODS:
        files = [encoder_folder(folder, method) / "encoder.safetensors" for folder in (trained[0], run)]
        assert files[0].read_bytes() == files[1].read_bytes()
        tables = [evaluation_folder(folder, method, "knn") / "predictions.csv" for folder in (trained[0], run)]
        assert tables[0].read_bytes() != tables[1].read_bytes()  # they were changed


# Leaks


def test_a_patient_in_both_splits_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    rows = [f"{n}.npy,{'test' if n > 5 else 'train'},P{n},{n % 2}" for n in range(10)]
    rows[7] = "7.npy,test,P3,1"
    listener = Listener()
    with pytest.raises(DataError, match=r"patient P3 is in train \(3.npy\) and test \(7.npy\); move one, or cross-"):
        small_run(write_folder(tmp_path / "a", rows), tmp_path / "run", ("random",), listener, data__name="folder")
    assert listener.started_list == []


def test_a_volume_in_both_splits_is_not_pretrained_on_and_the_tables_say_so(knees: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(knees, tmp_path / "knees"))
    shutil.copyfile(root / "train/sagittal/0003.npy", root / "valid/sagittal/0025.npy")
    run = small_run(root, tmp_path / "run", ("simclr",), evaluate__protocols="knn", pretrain__epochs=1).folder
    for one in read_results(run).evaluated:
        corpus = one.encoder.corpus
        assert corpus is None or (corpus.volumes, corpus.excluded) == (23, 1)
        assert any("(0003 = 0025): scores are too high" in note for note in one.record.notes)
    for table in ("leaderboard.csv", "leaderboard.md"):
        assert "(0003 = 0025): scores are too high" in (run / table).read_text()

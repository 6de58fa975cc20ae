"""What an encoder is evaluated with: all labels and parts of them, every test case each time; pretraining sees none."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ssl3d.data.manifest import VOXELS
from ssl3d.data.store import Store
from ssl3d.data.volumes import Volumes
from ssl3d.errors import DataError
from ssl3d.evaluate.protocols.knn import KNN
from ssl3d.evaluate.protocols.linear import Linear
from ssl3d.evaluate.subsets import subset
from ssl3d.protocol import FeatureProblem
from ssl3d.results.read import read_plan, read_results
from ssl3d.results.results import Evaluated
from tests.runs import Listener, encoder_folder, evaluation_folder, small_run, write_knees

PARTS: dict[str, Any] = {"evaluate__labels": (0.5, 1.0), "evaluate__imbalance": (0.5, 0.25), "evaluate__draws": 2}
ALL = ("byol", "moco", "simclr")


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees", cases=(24, 9))


def store_of(run: Path) -> Store:
    (folder,) = read_plan(run).stores.values()
    return Store.open(Path(folder))


def evaluated(run: Path) -> dict[tuple[str, str], Evaluated]:
    """Evaluations by protocol and condition."""
    found = read_results(run).evaluated
    return {(one.record.recipe.protocol, one.record.recipe.condition): one for one in found}


def test_every_protocol_is_evaluated_with_every_part_of_the_labels_and_that_part_alone(
    knees: Path, tmp_path: Path
) -> None:
    run = small_run(knees, tmp_path / "run", ("random",), **PARTS).folder
    store = store_of(run)
    train, test = store.labelled("train", "acl"), store.labelled("test", "acl")
    y, patients = store.targets("acl", train), np.array(store.patients(train))
    (file,) = run.glob("features/*/features.npz")
    with np.load(file, allow_pickle=False) as arrays:
        x, ids = arrays["x"], arrays["ids"].tolist()
    assert ids == store.ids(range(len(store)))
    found = evaluated(run)
    assert len(found) == 2 * (1 + 2 + 2 * 2)
    for (name, condition), one in found.items():
        part = subset(y, patients, store.task("acl"), one.record.recipe)
        assert (len(part) < len(y)) is (condition != "")
        rows = [train[i] for i in part]
        problem = FeatureProblem(x[rows], y[part], x[test], store.task("acl"), patients[part], folds=2, seed=0)
        again = {"linear": Linear, "knn": KNN}[name]().predict(problem)
        assert one.predictions["case"].tolist() == store.ids(test)
        np.testing.assert_allclose(one.predictions["p_1"], again.probabilities[:, 1], rtol=1e-9)
        assert (one.record.n_labels, one.record.n_positive) == (len(part), y[part].sum())
        assert one.record.score.threshold == pytest.approx(again.threshold)
        if one.training is not None:
            assert one.training["case"].tolist() == store.ids(rows)
    assert {one.record.recipe.labels for one in found.values()} >= {0.5, 1.0}
    assert (run / "curves.csv").is_file()


def test_fine_tuning_with_a_part_of_the_labels_reads_no_other_training_volume(
    knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: dict[str, set[int]] = {}
    real = Store.volumes
    current = [""]

    def watched(self: Store, indices: Sequence[int], *rest: Any) -> Volumes:
        read.setdefault(current[0], set()).update(indices)
        return real(self, indices, *rest)

    class Marks(Listener):
        def started(self, artifact: str) -> None:
            current[0] = artifact

    monkeypatch.setattr(Store, "volumes", watched)
    settings: dict[str, Any] = {"evaluate__protocols": ("finetune",), "protocol__finetune__epochs": 1}
    settings |= {"evaluate__labels": (0.5,), "evaluate__draws": 1, "baselines": False, "protocol__finetune__lr": 0.001}
    run = small_run(knees, tmp_path / "run", ("random",), Marks(), **settings).folder
    assert not (run / "features").exists()  # no protocol needs any
    store = store_of(run)
    train, test = store.labelled("train", "acl"), store.labelled("test", "acl")
    recipe = evaluated(run)["finetune", "labels=0.5 draw=0"].record.recipe
    part = subset(store.targets("acl", train), np.array(store.patients(train)), store.task("acl"), recipe)
    label = "random on tiny, seed 0: acl of mrnet sagittal, finetune, labels=0.5 draw=0"
    assert read[label] == {train[i] for i in part} | set(test)


def test_labels_too_few_for_the_shares_of_positives_are_refused_before_anything_is_made(
    knees: Path, tmp_path: Path
) -> None:
    listener = Listener()
    with pytest.raises(DataError, match=r"are too few for shares of positives of 0\.5, 0\.001"):
        small_run(knees, tmp_path / "run", ("random",), listener, evaluate__imbalance=(0.5, 0.001))
    assert listener.started_list == []


# Test volumes and pretraining


def test_pretraining_never_reads_a_test_volume(knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Store.volumes
    read: dict[str, set[int]] = {}
    current = [""]

    def watched(self: Store, indices: Sequence[int], *rest: Any) -> Volumes:
        read.setdefault(current[0], set()).update(indices)
        return real(self, indices, *rest)

    class Marks(Listener):
        def started(self, artifact: str) -> None:
            current[0] = artifact

    monkeypatch.setattr(Store, "volumes", watched)
    run = small_run(knees, tmp_path / "run", ALL, Marks(), baselines=False).folder
    store = store_of(run)
    for method in ALL:
        label = f"{method} on tiny, seed 0"
        assert read[f"{label}, pretrained on mrnet sagittal"] == set(store.indices("train"))
        assert read[f"{label}: features of mrnet sagittal"] == set(range(len(store)))


def test_encoders_are_the_same_to_the_bit_whatever_the_test_volumes_are(knees: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(knees, tmp_path / "knees"))
    for path in (root / "valid/sagittal").glob("*.npy"):
        np.save(path, 255 - np.load(path))
    runs = [small_run(data, tmp_path / data.parent.name / "run", ALL, baselines=False).folder for data in (knees, root)]
    for method in ALL:
        pair = [(encoder_folder(run, method) / "encoder.safetensors").read_bytes() for run in runs]
        assert pair[0] == pair[1]
        predicted = [(evaluation_folder(run, method) / "predictions.csv").read_bytes() for run in runs]
        assert predicted[0] != predicted[1]


def test_test_volumes_that_are_trained_on_are_reported_and_not_pretrained_on(knees: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(knees, tmp_path / "knees"))
    shutil.copyfile(root / "train/sagittal/0003.npy", root / "valid/sagittal/0025.npy")
    listener = Listener()
    run = small_run(root, tmp_path / "run", ("byol",), listener, baselines=False).folder
    sentence = "1 test volume is in the training split, too (0003 = 0025): scores are too high"
    assert any(sentence in note for note in listener.notes)
    for one in evaluated(run).values():
        assert sentence in one.record.notes[0]
        assert one.encoder.corpus is not None
        assert (one.encoder.corpus.volumes, one.encoder.corpus.excluded) == (23, 1)
    assert pd.read_csv(run / "leaderboard.csv")["note"].str.contains("scores are too high").all()
    assert (store_of(run).folder / VOXELS).is_file()

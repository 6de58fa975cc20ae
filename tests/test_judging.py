"""What a cell is judged with: all labels and parts of them, every test case each time; test volumes stay unseen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl3d.data.manifest import VOXELS
from ssl3d.data.store import Store
from ssl3d.data.volumes import Volumes
from ssl3d.errors import DataError
from ssl3d.evaluate.subsets import conditions
from ssl3d.protocol import protocol
from ssl3d.results.records import read_result
from ssl3d.run import cell as cell_module
from ssl3d.run.features import read_features
from tests.runs import Listener, cell_folder, small_run, write_knees

PARTS = {"evaluate__labels": (0.5, 1.0), "evaluate__imbalance": (0.5, 0.25), "evaluate__draws": 2}
ALL = ("byol", "moco", "simclr")


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees", cases=(24, 9))


class Told(Listener):
    """Remembers totals and figures, too."""

    def __init__(self) -> None:
        super().__init__()
        self.totals: dict[str, int] = {}
        self.figures: list[str] = []

    def phase(self, cell: str, what: str, total: int, unit: str, done: int = 0) -> None:
        self.totals[what] = total

    def advance(self, done: int, figures: Mapping[str, float]) -> None:
        self.figures += figures


def test_every_protocol_is_judged_with_every_part_of_the_labels_and_that_part_alone(
    knees: Path, tmp_path: Path
) -> None:
    told = Told()
    run = small_run(knees, tmp_path / "run", ("random",), told, **PARTS).folder
    folder = cell_folder(run, "random")
    result, table = read_result(folder)
    assert table is not None
    store = Store.open(run / "store")
    train, test = store.labelled("train", "acl"), store.labelled("test", "acl")
    x = read_features(run / "features" / str(result.features), store.ids(range(len(store))))
    assert x is not None
    parts = conditions(store.labels("acl", train), result.recipe.evaluate, seed=0, classes=2)
    assert len(parts) == 6
    assert len(result.curve) == 12
    points = {(point.condition, point.protocol): point for point in result.curve}
    for part in parts:
        used = [train[i] for i in part.indices]
        labels = store.labels("acl", used)
        for name in ("linear", "knn"):
            again = protocol(name)(x[used], labels, x[test], folds=2, seed=0, classes=2)
            rows = table.query("protocol == @name and condition == @part.condition")
            assert rows["case"].tolist() == store.ids(test)
            np.testing.assert_array_equal(rows["p_1"], again.probabilities[:, 1])
            point = points[part.condition, name]
            assert (point.n_train, point.n_positive) == (len(used), labels.sum())
            assert point.score.threshold == again.threshold
    assert told.totals["encoding"] == len(store)
    assert told.totals["judging"] == 2 * 7
    assert "knn AUC at positives=0.25 draw=1" in told.figures
    assert (run / "curves.csv").is_file()


def test_fine_tuning_with_a_part_of_the_labels_reads_no_other_training_volume(
    knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = Store.volumes

    def watched(self: Store, indices: Sequence[int], *rest: Any) -> Volumes:
        read.extend(indices)
        return real(self, indices, *rest)

    marks = []

    class Marks(Listener):
        def advance(self, done: int, figures: Mapping[str, float]) -> None:
            if any("AUC" in name for name in figures):
                marks.append(len(read))

    monkeypatch.setattr(Store, "volumes", watched)
    settings = {"evaluate__protocols": ("finetune",), "evaluate__finetune_epochs": 1, "evaluate__labels": (0.5,)}
    settings |= {"evaluate__draws": 1, "baselines": False, "evaluate__finetune_lr": 0.001}
    run = small_run(knees, tmp_path / "run", ("random",), Marks(), **settings).folder
    result, table = read_result(cell_folder(run, "random"))
    assert result.features is None  # no protocol needed any
    store = Store.open(run / "store")
    train, test = store.labelled("train", "acl"), store.labelled("test", "acl")
    (part,) = conditions(store.labels("acl", train), result.recipe.evaluate, seed=0, classes=2)
    assert set(read[marks[-2] :]) == {train[i] for i in part.indices} | set(test)
    assert table is not None
    assert set(table["condition"]) == {"", "labels=0.5 draw=0"}


def test_labels_too_few_for_the_shares_of_positives_are_refused_before_any_cell_runs(
    knees: Path, tmp_path: Path
) -> None:
    told = Listener()
    with pytest.raises(DataError, match=r"are too few for shares of positives of 0\.5, 0\.001"):
        small_run(knees, tmp_path / "run", ("random",), told, evaluate__imbalance=(0.5, 0.001))
    assert told.started == []


# Test volumes and pretraining


def test_pretraining_never_reads_a_test_volume(knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_volumes, real_judge = Store.volumes, cell_module.judge
    guarded = True
    refused: list[int] = []

    def volumes(self: Store, indices: Sequence[int], *rest: Any) -> Volumes:
        if guarded and set(indices) & set(self.indices("test")):
            refused.extend(indices)
            raise AssertionError("a test volume was read")
        return real_volumes(self, indices, *rest)

    def judge(*arguments: Any) -> Any:
        nonlocal guarded
        guarded = False
        try:
            return real_judge(*arguments)
        finally:
            guarded = True

    monkeypatch.setattr(Store, "volumes", volumes)
    monkeypatch.setattr(cell_module, "judge", judge)
    assert small_run(knees, tmp_path / "run", ALL, baselines=False).failures == {}
    assert refused == []
    monkeypatch.setattr(cell_module, "judge", real_judge)  # the guard holds: judging cannot pass it
    (reason,) = small_run(knees, tmp_path / "other", ("random",), baselines=False).failures.values()
    assert "a test volume was read" in reason
    assert refused


def test_encoders_are_the_same_to_the_bit_whatever_the_test_volumes_are(knees: Path, tmp_path: Path) -> None:
    run = small_run(knees, tmp_path / "run", ALL, baselines=False).folder
    store = Store.open(run / "store")
    path = run / "store" / VOXELS
    voxels = bytearray(path.read_bytes())
    for index in store.indices("test"):
        case = store.manifest.cases[index]
        voxels[case.offset : case.end] = bytes(255 - value for value in voxels[case.offset : case.end])
    path.write_bytes(bytes(voxels))
    before, predicted = (
        {method: (cell_folder(run, method) / name).read_bytes() for method in ALL}
        for name in ("encoder.safetensors", "predictions.csv")
    )
    for method in ALL:
        for name in ("result.json", "encoder.safetensors"):
            (cell_folder(run, method) / name).unlink()
    for file in (run / "features").iterdir():
        file.unlink()
    small_run(knees, run, ALL, baselines=False)
    for method in ALL:
        assert (cell_folder(run, method) / "encoder.safetensors").read_bytes() == before[method]
        assert (cell_folder(run, method) / "predictions.csv").read_bytes() != predicted[method]  # they were changed


def test_volumes_in_both_splits_are_reported(knees: Path, tmp_path: Path) -> None:
    import shutil

    root = Path(shutil.copytree(knees, tmp_path / "knees"))
    shutil.copyfile(root / "train/sagittal/0003.npy", root / "valid/sagittal/0025.npy")
    told = Listener()
    small_run(root, tmp_path / "run", ("random",), told, baselines=False)
    assert any("1 volumes stand in both the training and the test split (0003 = 0025)" in note for note in told.notes)
    result, _ = read_result(cell_folder(tmp_path / "run", "random"))
    assert any("(0003 = 0025): scores are too high" in note for note in result.notes)
    assert "(0003 = 0025): scores are too high" in (tmp_path / "run/leaderboard.csv").read_text()


def test_the_recipe_says_which_parts_were_asked_for(knees: Path, tmp_path: Path) -> None:
    run = small_run(knees, tmp_path / "run", ("random",), baselines=False, **PARTS).folder
    (recipe,) = json.loads((run / "plan.json").read_text())["cells"].values()
    assert recipe["evaluate"]["labels"] == [0.5, 1.0]
    assert recipe["evaluate"]["imbalance"] == [0.5, 0.25]

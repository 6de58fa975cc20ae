"""Planes of an exam, run together and combined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ssl3d.errors import RunError
from ssl3d.evaluate.protocols.inner import choose
from ssl3d.evaluate.protocols.knn import knn
from ssl3d.evaluate.protocols.linear import linear
from ssl3d.protocol import Prediction
from ssl3d.results.records import predictions_frame, write_result
from ssl3d.tables.combine_planes import Plane, combined, read_run
from ssl3d.tables.comparisons import comparisons
from ssl3d.tables.leaderboard import COLUMNS, cells, leaderboard
from ssl3d.tables.typed import read_table
from tests.cells import LABELS, cell
from tests.runs import Listener, small_run, write_knees

ALL = "axial + coronal + sagittal"
TRAIN = np.arange(300) % 3 == 0


def logit(table: pd.DataFrame) -> np.ndarray:
    rows = table[table["protocol"] == "linear"].sort_values("case")
    return np.log(rows["p_1"].to_numpy() / rows["p_0"].to_numpy())


def plane(name: str, strength: float, noise: int, protocols: Sequence[str] = ("linear",), order: int = 0) -> Plane:
    """A plane whose training and test exams are told apart equally well."""
    recipe = {"evaluate": {"protocols": list(protocols)}}
    result, test = cell("byol", strength=strength, noise=noise, data={"plane": name}, recipe=recipe)
    rng = np.random.default_rng([noise, 99])
    p = 1 / (1 + np.exp(-(rng.standard_normal(300) + strength * (TRAIN * 2 - 1))))
    ids = np.array([f"t{i:03d}" for i in range(300)])
    shuffled = np.random.default_rng(order).permutation(300)
    layers = {name: np.stack([1 - p, p], axis=1)[shuffled] for name in protocols if name != "finetune"}
    assert test is not None
    return Plane(result, test, predictions_frame(list(ids[shuffled]), TRAIN[shuffled].astype(int), layers))


def test_planes_are_weighed_by_logistic_regression_on_training_exams_matched_by_id() -> None:
    planes = [plane("axial", 1.0, 1), plane("coronal", 0.0, 2, order=1), plane("sagittal", 2.0, 3, order=2)]
    result, predictions = combined(planes)
    assert predictions is not None
    x = np.stack([logit(one.training) for one in planes], axis=1)
    other = np.stack([logit(one.test) for one in planes], axis=1)
    model = LogisticRegression(C=np.inf, max_iter=1000).fit(x, TRAIN)
    rows = predictions.sort_values("case")
    np.testing.assert_allclose(rows["p_1"], model.predict_proba(other)[:, 1], atol=1e-3)
    weights = result.scores["linear"].chosen["planes"]
    assert weights["sagittal"] > weights["axial"] > abs(weights["coronal"])
    aucs = [roc_auc_score(LABELS, logit(one.test)) for one in planes]
    assert result.scores["linear"].metrics["auc"] > max(aucs)
    assert result.data is not None
    assert (result.data.plane, result.data.n_train, result.data.n_test) == (ALL, 300, 120)


def test_the_threshold_of_combined_planes_is_from_training_exams() -> None:
    planes = [plane("axial", 1.0, 1), plane("coronal", 1.0, 2)]
    result, _ = combined(planes)
    flipped = [one._replace(test=one.test.assign(label=1 - one.test["label"])) for one in planes]
    again, _ = combined(flipped)
    assert again.scores["linear"].threshold == result.scores["linear"].threshold


def test_protocols_without_out_of_fold_predictions_are_left_out_with_a_note() -> None:
    planes = [plane(name, 1.0, i, ("linear", "finetune")) for i, name in enumerate(("axial", "coronal"))]
    result, predictions = combined(planes)
    assert set(result.scores) == set(result.recipe.evaluate.protocols) == {"linear"}
    assert predictions is not None
    assert set(predictions["protocol"]) == {"linear"}
    assert result.notes == ("finetune gives no out-of-fold predictions to combine planes by",)


def test_planes_that_disagree_or_share_no_exam_are_refused() -> None:
    first, second = plane("axial", 1.0, 1), plane("coronal", 1.0, 2)
    mislabelled = second.training.assign(label=1 - second.training["label"])
    with pytest.raises(RunError, match="disagree on the label of exam 't000'"):
        combined([first, second._replace(training=mislabelled)])
    with pytest.raises(RunError, match="share no exam"):
        combined([first, second._replace(test=second.test.assign(case="x" + second.test["case"]))])


def test_probabilities_of_zero_and_one_are_taken() -> None:
    planes = [plane("axial", 1.0, 1), plane("coronal", 1.0, 2)]
    for one in planes:
        one.training.loc[::7, ["p_0", "p_1"]] = [1.0, 0.0]
        one.test.loc[::5, ["p_0", "p_1"]] = [0.0, 1.0]
    _, predictions = combined(planes)
    assert predictions is not None
    assert np.isfinite(predictions[["p_0", "p_1"]].to_numpy()).all()


def test_out_of_fold_predictions_are_of_fits_that_had_not_seen_the_case() -> None:
    seen: list[int] = []

    def fit_predict(fit: np.ndarray, held: np.ndarray) -> np.ndarray:
        seen.extend(held)
        p = np.isin(held, fit) + held / 1000
        return np.stack([1 - p, p], axis=1)[None]

    found = choose(fit_predict, np.arange(40) % 2, classes=2, folds=4, seed=0, default=0).out_of_fold
    assert sorted(seen) == list(range(40))
    assert found is not None
    np.testing.assert_allclose(found[:, 1], np.arange(40) / 1000)  # in the order of the cases, none of them fitted


@pytest.mark.parametrize("protocol", [linear, knn])
def test_protocols_on_features_give_out_of_fold_predictions(protocol: Callable[..., Prediction]) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 6)), np.arange(40) % 2
    found = protocol(x, y, x[:3], folds=4, seed=0).out_of_fold
    assert found is not None
    assert found.shape == (40, 2)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert protocol(x[:5], np.array([0, 0, 0, 0, 1]), x).out_of_fold is None  # nothing can be held out


def save(folder: Path, made: Plane) -> None:
    where = folder / made.cell.cell
    where.mkdir(parents=True)
    write_result(where, made.cell, made.test, made.training)


def named(made: Plane) -> Plane:
    """With a cell's name of its own, as its hash gives it."""
    name = f"byol-tiny-s0-{made.cell.recipe.hash()}"
    return made._replace(cell=made.cell.model_copy(update={"cell": name}))


def test_a_run_is_read_with_its_planes_combined_where_all_are_there(tmp_path: Path) -> None:
    planes = [named(plane(name, 1.0, i)) for i, name in enumerate(("axial", "coronal", "sagittal"))]
    save(tmp_path, planes[0])
    assert len(read_run(tmp_path)) == 1
    save(tmp_path, planes[1])
    save(tmp_path, planes[2])
    results = read_run(tmp_path)
    assert sorted(str(result.recipe.data.plane) for result, _ in results) == ["axial", ALL, "coronal", "sagittal"]
    assert list(leaderboard(results)["plane"]) == ["axial", "coronal", "sagittal", ALL]
    assert ALL not in set(cells(results)["plane"])
    training = tmp_path / planes[0].cell.cell / "training.csv"
    training.write_text(training.read_text().replace("0.", "0.0", 1))
    with pytest.raises(RunError, match=r"training\.csv was changed after it was written"):
        read_run(tmp_path)


def two_planes(seed: int, axial: int, coronal: int) -> list[Plane]:
    """Planes of one seed, with noise of their own, flipped along other axes."""
    made = [plane("axial", 1.0, axial), plane("coronal", 1.0, coronal)]
    augments = [
        one.cell.recipe.augment.model_copy(update={"flip": flip})
        for one, flip in zip(made, [(0.5, 0.5, 0.0), (0.5, 0.0, 0.5)], strict=True)
    ]
    seeded = [
        one.cell.recipe.model_copy(update={"seed": seed, "augment": augment})
        for one, augment in zip(made, augments, strict=True)
    ]
    return [
        named(one._replace(cell=one.cell.model_copy(update={"recipe": recipe})))
        for one, recipe in zip(made, seeded, strict=True)
    ]


def test_a_seed_that_one_plane_lacks_makes_the_combined_row_partial_and_is_named(tmp_path: Path) -> None:
    whole, broken = two_planes(0, 1, 2), two_planes(1, 3, 4)
    for one in (*whole, broken[0]):
        save(tmp_path, one)
    row = leaderboard(read_run(tmp_path)).query("protocol == 'linear' and plane == 'axial + coronal'").iloc[0]
    assert (row["status"], row["seeds"]) == ("partial", 1)
    assert "seed 1 is left out: planes are not combined: coronal has no result yet" in row["note"]
    failure = broken[1].cell.model_copy(update={"status": "failed", "reason": "diverged", "scores": {}, "data": None})
    (tmp_path / failure.cell).mkdir()
    write_result(tmp_path / failure.cell, failure, None)
    row = leaderboard(read_run(tmp_path)).query("protocol == 'linear' and plane == 'axial + coronal'").iloc[0]
    assert row["status"] == "partial"
    assert "seed 1 is left out: planes are not combined: coronal failed" in row["note"]


def test_a_method_that_lacks_the_first_plane_is_said_in_the_combined_table_beside_the_others(tmp_path: Path) -> None:
    for one in (*two_planes(0, 1, 2), two_planes(1, 3, 4)[1]):
        save(tmp_path, one)
    other = two_planes(0, 5, 6)[1]
    recipe = other.cell.recipe.model_copy(update={"method": "moco"})
    save(tmp_path, other._replace(cell=other.cell.model_copy(update={"recipe": recipe, "cell": "moco-tiny-s0-x"})))
    board = leaderboard(read_run(tmp_path)).query("protocol == 'linear' and plane == 'axial + coronal'")
    assert list(board["method"]) == ["byol", "moco"]
    assert list(board["status"]) == ["partial", "partial"]
    assert board["auc"].isna().tolist() == [False, True]
    assert board["note"].str.contains("axial has no result yet").all()


def test_planes_that_cannot_be_combined_leave_their_own_tables_and_say_why(tmp_path: Path) -> None:
    first, second = two_planes(0, 1, 2)
    odd = second._replace(training=second.training.assign(label=1 - second.training["label"]))
    save(tmp_path, first)
    save(tmp_path, odd)
    board = leaderboard(read_run(tmp_path)).query("protocol == 'linear'").set_index("plane")
    assert board.loc[["axial", "coronal"], "auc"].notna().all()
    assert "disagree on the label of exam 't000'" in board.loc["axial + coronal", "note"]
    (tmp_path / odd.cell.cell / "training.csv").unlink()
    board = leaderboard(read_run(tmp_path)).query("protocol == 'linear'").set_index("plane")
    assert board.loc[["axial", "coronal"], "auc"].notna().all()
    assert "coronal has no predictions of training exams (training.csv)" in board.loc["axial + coronal", "note"]


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees")


def test_a_run_over_planes_and_tasks_ends_in_every_table(knees: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    changes = {"pretrain__epochs": 1, "baselines": False}
    assert small_run(knees, run, **changes).failures == {}  # one plane and task first: it may grow
    assert (run / "store/manifest.json").exists()
    assert small_run(knees, run, data__plane="all", data__task="acl,meniscus", **changes).failures == {}
    assert {path.name for path in (run / "store").iterdir() if path.is_dir()} == {"axial", "coronal"}
    board = read_table(run / "leaderboard.csv", COLUMNS)
    tasks, planes = ["acl", "meniscus", "mean of acl, meniscus"], ["axial", "coronal", "sagittal", ALL]
    found = board[board["protocol"] == "linear"]
    assert list(zip(found["task"], found["plane"], strict=True)) == [
        (task, plane) for task in tasks for plane in planes
    ]
    assert board["auc"].notna().all()
    assert len(list((run / "cells").iterdir())) == 6
    assert (run / "leaderboard.md").read_text().count("| protocol |") == 12
    assert comparisons(read_run(run / "cells")).empty


def test_tables_that_cannot_be_made_stop_no_cell_and_are_raised_at_the_end(
    knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run: Path, results: object) -> None:
        raise RunError("the cells are not comparable")

    monkeypatch.setattr("ssl3d.run.execute.write_tables", refuse)
    told = Listener()
    with pytest.raises(RunError, match="not comparable"):
        small_run(knees, tmp_path / "run", ("random",), told, baselines=False, seeds=(0, 1))
    assert len(list((tmp_path / "run/cells").glob("*/result.json"))) == 2
    assert told.notes.count("the tables are not written: the cells are not comparable") == 2

"""Planes of an exam combined: the regression, what is derived, and what is said where they cannot be combined."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ssl3d.errors import RunError
from ssl3d.recipe import AugmentRecipe
from ssl3d.results.read import read_results
from ssl3d.results.results import Evaluated, Failed
from ssl3d.tables.combine_planes import combine_planes
from ssl3d.tables.tables import Tables
from tests.records import LABELS, encoder, evaluated, failed, results, write_run

ALL = "axial + coronal + sagittal"


def plane(name: str, strength: float = 1.0, noise: int = 0, seed: int = 0, **fields: Any) -> Evaluated:
    """A plane whose training and test exams are separated equally well."""
    return evaluated("byol", seed, strength, plane=name, noise=noise, training=True, **fields)


def shuffled(one: Evaluated, seed: int) -> Evaluated:
    assert one.training is not None
    return replace(one, training=one.training.sample(frac=1, random_state=seed, ignore_index=True))


def the_one(*planes: Evaluated | Failed) -> Evaluated:
    (found,) = combine_planes(results(*planes))
    assert isinstance(found, Evaluated), found
    return found


def the_failure(*planes: Evaluated | Failed) -> str:
    (found,) = combine_planes(results(*planes))
    assert isinstance(found, Failed)
    return found.reason


def logit(table: pd.DataFrame | None) -> np.ndarray:
    assert table is not None
    rows = table.sort_values("case")
    return np.asarray(np.log(rows["p_1"].to_numpy() / rows["p_0"].to_numpy()))


def test_planes_are_weighed_by_logistic_regression_on_training_exams_matched_by_id() -> None:
    planes = [plane("axial", 1.0, 1), plane("coronal", 0.0, 2), plane("sagittal", 2.0, 3)]
    found = the_one(planes[0], shuffled(planes[1], 1), shuffled(planes[2], 2))
    x = np.stack([logit(one.training) for one in planes], axis=1)
    other = np.stack([logit(one.predictions) for one in planes], axis=1)
    assert planes[0].training is not None
    y = planes[0].training.sort_values("case")["label"]
    model = LogisticRegression(C=np.inf, max_iter=1000).fit(x, y)
    rows = found.predictions.sort_values("case")
    np.testing.assert_allclose(rows["p_1"], model.predict_proba(other)[:, 1], atol=1e-3)
    weights = found.record.score.chosen["planes"]
    assert weights["sagittal"] > weights["axial"] > abs(weights["coronal"])
    aucs = [roc_auc_score(LABELS, logit(one.predictions)) for one in planes]
    auc = found.record.score.metrics["auc"]
    assert auc is not None
    assert auc > max(aucs)
    data = found.record.data
    assert (data.plane, data.name, data.n_train, data.n_test) == (ALL, "demo", 300, 120)


def test_the_threshold_of_combined_planes_is_from_training_exams() -> None:
    planes = [plane("axial", noise=1), plane("coronal", noise=2)]
    flipped = [replace(p, predictions=p.predictions.assign(label=1 - p.predictions["label"])) for p in planes]
    assert the_one(*planes).record.score.threshold == the_one(*flipped).record.score.threshold


def test_a_protocol_without_out_of_fold_predictions_has_no_combined_row() -> None:
    tuned = [evaluated("byol", plane=name, protocol="finetune", noise=i) for i, name in enumerate(("axial", "coronal"))]
    board = Tables(results(plane("axial"), plane("coronal", noise=1), *tuned)).leaderboard
    assert board.query("plane == 'axial + coronal'")["protocol"].tolist() == ["linear"]
    assert len(board.query("protocol == 'finetune'")) == 2


def test_planes_that_disagree_or_share_no_exam_say_so_beside_their_own_tables() -> None:
    first, second = plane("axial", noise=1), plane("coronal", noise=2)
    assert second.training is not None
    odd = replace(second, training=second.training.assign(label=1 - second.training["label"]))
    assert "disagree on the label of exam 't000'" in the_failure(first, odd)
    elsewhere = replace(second, predictions=second.predictions.assign(case="x" + second.predictions["case"]))
    assert "share no exam" in the_failure(first, elsewhere)
    without = replace(second, training=None)
    assert "coronal has no predictions of training exams" in the_failure(first, without)
    board = Tables(results(first, odd)).leaderboard.set_index("plane")
    assert board.loc[["axial", "coronal"], "auc"].notna().all()
    assert "disagree on the label of exam 't000'" in str(board.loc["axial + coronal", "note"])


def test_probabilities_of_zero_and_one_are_clipped() -> None:
    planes = [plane("axial", noise=1), plane("coronal", noise=2)]
    for one in planes:
        assert one.training is not None
        one.training.loc[::7, ["p_0", "p_1"]] = [1.0, 0.0]
        one.predictions.loc[::5, ["p_0", "p_1"]] = [0.0, 1.0]
    assert np.isfinite(the_one(*planes).predictions[["p_0", "p_1"]].to_numpy()).all()


def test_three_classes_are_combined() -> None:
    labels = np.arange(90) % 3
    planes = [plane(name, 1.5, i, labels=labels, K=3) for i, name in enumerate(("axial", "coronal"))]
    found = the_one(*planes)
    assert found.predictions[["p_0", "p_1", "p_2"]].sum(axis=1).to_numpy() == pytest.approx(1)
    assert found.record.score.chosen["planes"] == {"axial": None, "coronal": None}


def test_a_run_is_tabulated_with_its_planes_combined(tmp_path: Path) -> None:
    planes = [plane(name, noise=i) for i, name in enumerate(("axial", "coronal", "sagittal"))]
    assert combine_planes(results(planes[0])) == []
    made = Tables(read_results(write_run(tmp_path, results(*planes))))
    assert list(made.leaderboard["plane"]) == [ALL, "axial", "coronal", "sagittal"]
    assert list(made.leaderboard["primary"]) == [True, False, False, False]
    assert made.leaderboard["auc"].notna().all()
    assert ALL not in set(made.evaluations["plane"])
    row = made.leaderboard.set_index("plane").loc[ALL]
    assert row["pretrain_seconds"] == 30.0
    assert row["corpus"] == "demo axial + demo coronal + demo sagittal"


def test_planes_are_matched_whatever_axes_they_are_flipped_along() -> None:
    def flipped(name: str, flip: tuple[float, float, float], seed: int) -> Evaluated:
        recipe = {"augment": AugmentRecipe(flip=flip)}
        return plane(name, noise=seed, seed=seed, encoder_recipe=recipe, recipe=recipe)

    found = [
        flipped(name, flip, seed)
        for seed in (0, 1)
        for name, flip in (("axial", (0.5, 0.5, 0.0)), ("coronal", (0.5, 0.0, 0.5)))
    ]
    board = Tables(results(*found)).leaderboard.query("plane == 'axial + coronal'")
    assert board["seeds"].tolist() == [2]


def test_one_encoder_evaluated_in_several_planes_counts_once_in_the_price() -> None:
    shared = encoder("byol", plane=None)
    found = the_one(*(plane(name, noise=i, of=shared) for i, name in enumerate(("axial", "coronal"))))
    assert found.encoder.price.pretrain_seconds == shared.price.pretrain_seconds
    assert found.encoder.corpus == shared.corpus


def test_a_seed_that_one_plane_lacks_makes_the_combined_row_partial_and_is_named() -> None:
    whole = [plane("axial", noise=1), plane("coronal", noise=2)]
    half = plane("axial", noise=3, seed=1)

    def row(*found: Evaluated | Failed) -> pd.Series:
        return Tables(results(*found)).leaderboard.query("plane == 'axial + coronal'").iloc[0]

    unfinished = row(*whole, half)
    assert (unfinished["status"], unfinished["seeds"]) == ("partial", 1)
    assert "seed 1 is left out: planes are not combined: coronal has no result yet" in unfinished["note"]
    broken = row(*whole, half, failed("byol", 1, "the loss is not finite", plane="coronal"))
    assert broken["status"] == "partial"
    assert "seed 1 is left out: planes are not combined: coronal failed" in broken["note"]


def test_a_method_that_lacks_the_first_plane_stands_in_the_combined_table_beside_the_others() -> None:
    other = evaluated("moco", plane="coronal", noise=6, training=True)
    found = [plane("axial", noise=1), plane("coronal", noise=2), plane("coronal", noise=4, seed=1), other]
    board = Tables(results(*found)).leaderboard.query("plane == 'axial + coronal'")
    assert list(board["method"]) == ["byol", "moco"]
    assert list(board["status"]) == ["partial", "partial"]
    assert board["auc"].isna().tolist() == [False, True]
    assert board["note"].str.contains("axial has no result yet").all()


def test_two_versions_of_the_code_are_never_combined() -> None:
    edited = {"sources": {"method": "ed17ed"}}
    found = combine_planes(results(plane("axial"), plane("coronal", encoder_fields=edited)))
    assert [one.reason for one in found if isinstance(one, Failed)] == [
        "planes are not combined: coronal has no result yet",
        "planes are not combined: axial has no result yet",
    ]


def test_training_exams_of_one_class_are_refused() -> None:
    planes = [plane("axial"), plane("coronal", noise=1)]
    one_class = [replace(p, training=p.training.assign(label=0)) for p in planes if p.training is not None]
    assert "are of one class" in the_failure(*one_class)


def test_planes_that_fail_stop_no_other_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RunError("no combination")

    monkeypatch.setattr("ssl3d.tables.combine_planes.combined", refuse)
    board = Tables(results(plane("axial"), plane("coronal", noise=1))).leaderboard
    assert board["auc"].notna().tolist() == [False, True, True]

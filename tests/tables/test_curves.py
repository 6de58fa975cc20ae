"""Curves: one row per share of the labels, intervals over cases and repetitions, comparable with the leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ssl3d.errors import RunError
from ssl3d.evaluate.statistics.auc import estimate_auc
from ssl3d.evaluate.statistics.inference import interval
from ssl3d.results.folder import CURVES
from ssl3d.results.results import Evaluated, Failed
from ssl3d.tables.columns import read_table
from ssl3d.tables.curves import COLUMNS
from ssl3d.tables.tables import Tables
from ssl3d.tables.write import write_tables
from tests.evaluate.estimates import auc_interval
from tests.records import LABELS, evaluated, failed, results

SHARES = {0.5: 1.0, 0.1: 0.4}  # how strong the scores are


def tables(*found: Evaluated | Failed) -> Tables:
    return Tables(results(*found))


def at(share: float, draw: int, method: str = "byol", seed: int = 0, protocol: str = "linear") -> Evaluated:
    """An evaluation with a share of the labels."""
    noise = 1000 * draw + round(100 * share) + (7 if protocol == "knn" else 0)
    recipe = {"labels": share, "draw": draw}
    return evaluated(method, seed, SHARES.get(share, 0.4), protocol=protocol, noise=noise, recipe=recipe)


def with_curve(method: str = "byol", seed: int = 0, draws: int = 2, protocol: str = "linear") -> list[Evaluated]:
    """Evaluations with all labels, two shares of labels, and one of positives."""
    whole = evaluated(method, seed, 1.6, protocol=protocol, noise=3)
    shares = [at(share, draw, method, seed, protocol) for share in SHARES for draw in range(draws)]
    return [whole, *shares, *(positives(method, seed, draw, protocol) for draw in range(draws))]


def positives(method: str, seed: int, draw: int, protocol: str = "linear", **fields: Any) -> Evaluated:
    recipe = {"labels": 0.4, "positives": 0.2, "draw": draw}
    return evaluated(method, seed, 0.7, protocol=protocol, noise=5000 + draw, recipe=recipe, **fields)


def test_there_is_a_row_for_each_method_protocol_and_share_with_all_labels_first() -> None:
    found = [
        one
        for protocol in ("linear", "knn")
        for method, seed in (("byol", 0), ("byol", 1), ("moco", 0))
        for one in with_curve(method, seed, protocol=protocol)
    ]
    table = tables(*found, failed("simclr")).curves
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 2 * 2 * 4
    part = table.query("method == 'byol' and protocol == 'knn'")
    assert list(zip(part["condition"], part["share"], strict=True)) == [
        ("labels", 1.0), ("labels", 0.5), ("labels", 0.1), ("positives", 0.2),
    ]  # fmt: skip
    assert part["n_labels"].tolist() == [300, 150, 30, 120]
    assert part["n_positive"].tolist() == [150, 75, 15, 24]
    assert part["draws"].tolist() == [1, 2, 2, 2]
    assert part["seeds"].tolist() == [2, 2, 2, 2]
    assert (table["ci_low"] < table["score"]).all()
    assert (table["score"] < table["ci_high"]).all()


def test_all_labels_stand_as_on_the_leaderboard() -> None:
    made = tables(*(one for seed in (0, 1, 2) for one in with_curve(seed=seed)))
    names = ["score", "ci_low", "ci_high", "interval", "spread", "seeds", "n_test", "data", "task", "settings"]
    found = made.curves.query("share == 1")[names].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, made.leaderboard[names])


def test_parts_of_the_labels_have_no_row_on_the_leaderboard() -> None:
    made = tables(*with_curve())
    assert len(made.leaderboard) == 1
    assert len(made.evaluations) == 7
    assert made.evaluations["labels"].tolist() == [1.0, 0.5, 0.5, 0.1, 0.1, 0.4, 0.4]
    assert made.evaluations["draw"].fillna(-1).tolist() == [-1, 0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_mean_over_the_draws_of_a_seed_is_one_repetition_and_so_is_each_draw_of_one_seed(seeds: int) -> None:
    table = tables(*(one for seed in range(seeds) for one in with_curve(seed=seed, draws=3))).curves
    row = table.query("condition == 'labels' and share == 0.1").iloc[0]
    drawn = [at(0.1, draw, seed=seed) for seed in range(seeds) for draw in range(3)]
    layers = np.stack([one.predictions[["p_0", "p_1"]].to_numpy() for one in drawn])
    each = estimate_auc(LABELS, layers)
    repeated = each.grouped(seeds) if seeds > 1 else each
    expected = interval(repeated)
    assert repeated.scores == pytest.approx(each.scores.reshape(len(repeated.scores), -1).mean(axis=1))
    assert row["score"] == pytest.approx(each.scores.mean())
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((expected.low, expected.high))
    assert row["spread"] == pytest.approx(repeated.scores.std(ddof=1))
    source = "DeLong and seeds" if seeds > 1 else "DeLong and draws"
    assert (row["interval"], row["draws"], row["seeds"]) == (source, 3, seeds)
    assert ("leaves out the variance of the encoder's seed" in str(row["note"])) == (seeds == 1)


def test_one_draw_of_one_seed_has_delongs_interval() -> None:
    row = tables(*with_curve(draws=1)).curves.query("share == 0.5").iloc[0]
    expected = auc_interval(LABELS, at(0.5, 0).predictions["p_1"].to_numpy())
    assert (row["score"], row["ci_low"]) == pytest.approx((expected.estimate, expected.low))
    assert row["interval"] == "DeLong"
    assert pd.isna(row["spread"])


def test_a_draw_that_a_seed_lacks_is_left_out_and_named() -> None:
    found = [at(0.5, 0, seed=0), at(0.5, 1, seed=0), at(0.5, 0, seed=1)]
    row = tables(*found).curves.iloc[0]
    assert (row["draws"], row["seeds"]) == (1, 2)
    assert row["note"] == "draw 1 is left out: not done for every seed and fold"


def test_curves_stand_where_the_evaluation_with_all_labels_failed() -> None:
    table = tables(at(0.5, 0), failed("byol")).curves
    assert list(zip(table["condition"], table["share"], strict=True)) == [("labels", 0.5)]


def test_a_curve_of_positives_alone_has_no_row_of_all_labels() -> None:
    table = tables(evaluated("byol"), positives("byol", 0, 0)).curves
    assert set(table["condition"]) == {"positives"}


def test_without_curves_there_is_no_table_and_no_file(tmp_path: Path) -> None:
    made = tables(evaluated())
    assert made.curves.empty
    write_tables(tmp_path, made)
    assert not (tmp_path / CURVES).exists()


def test_curves_come_back_from_their_file_unchanged(tmp_path: Path) -> None:
    made = tables(*(one for seed in (0, 1) for one in with_curve(seed=seed)))
    write_tables(tmp_path, made)
    pd.testing.assert_frame_equal(read_table(tmp_path / CURVES, COLUMNS), made.curves, check_exact=True)


def test_one_class_in_the_test_set_leaves_the_auc_out_and_says_why() -> None:
    ones = np.ones(10, int)
    table = tables(evaluated(labels=ones), evaluated(labels=ones, recipe={"labels": 0.5})).curves
    assert table["share"].tolist() == [1.0, 0.5]
    assert table["score"].isna().all()
    assert (table["note"] == "all 10 test cases are of class 1").all()


def test_points_with_different_numbers_of_labels_are_not_compared() -> None:
    made = tables(positives("byol", 0, 0), positives("simclr", 0, 0, n_positive=30))
    with pytest.raises(RunError, match=r"number of labels used differs \(\(120, 24\) and \(120, 30\)\)"):
        made.curves  # noqa: B018

"""Curves: one row a share, intervals over cases and repetitions, comparable with the leaderboard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssl3d.evaluate.statistics.bootstrap import Resampled, resample, resample_cases, standard_error
from ssl3d.evaluate.statistics.delong import auc_interval, logit_limits
from ssl3d.protocol import Prediction
from ssl3d.results.records import CurvePoint, predictions_frame
from ssl3d.tables.curves import COLUMNS, curves
from ssl3d.tables.leaderboard import leaderboard
from ssl3d.tables.scoring import protocol_score
from ssl3d.tables.standings import BOOTSTRAP_SEED
from ssl3d.tables.typed import read_table
from ssl3d.tables.write import write_tables
from tests.cells import LABELS, Cell, cell, failed

SHARES = {0.5: 1.0, 0.1: 0.4}  # how strong the scores are
IDS = [f"{i:04d}" for i in range(len(LABELS))]


def prediction(strength: float, *key: int) -> np.ndarray:
    z = np.random.default_rng(key).standard_normal(len(LABELS)) + strength * LABELS
    p = 1 / (1 + np.exp(-z))
    return np.stack([1 - p, p], axis=1)


def with_curve(method: str = "byol", seed: int = 0, draws: int = 2, imbalance: bool = True) -> Cell:
    """A finished cell with two shares of labels, and one of positives."""
    evaluate = {"labels": [*SHARES, 1.0], "imbalance": [0.2] if imbalance else [], "draws": draws}
    result, table = cell(method, seed, recipe={"evaluate": evaluate})
    assert table is not None
    points, tables = [], [table]
    wanted = [("labels", share, strength) for share, strength in SHARES.items()]
    wanted += [("positives", 0.2, 0.7)] if imbalance else []
    for kind, share, strength in wanted:
        for draw in range(draws):
            condition = f"{kind}={share!r} draw={draw}"
            for number, protocol in enumerate(("linear", "knn")):
                p = prediction(strength, seed, draw, number, round(100 * share))
                tables.append(predictions_frame(IDS, LABELS, {protocol: p}, condition))
                points.append(
                    CurvePoint(
                        condition=condition,
                        protocol=protocol,
                        labels=share if kind == "labels" else 0.4,
                        positives=share if kind == "positives" else None,
                        draw=draw,
                        n_train=round(300 * share),
                        n_positive=round(60 * share),
                        score=protocol_score(Prediction(p, 0.5), LABELS),
                    )
                )
    return result.model_copy(update={"curve": tuple(points)}), pd.concat(tables, ignore_index=True)


def test_there_is_a_row_for_each_method_protocol_and_share_with_all_labels_first() -> None:
    found = curves([with_curve("byol", seed) for seed in (0, 1)] + [with_curve("moco"), failed("simclr")])
    assert list(found.columns) == list(COLUMNS)
    assert len(found) == 2 * 2 * 4
    part = found.query("method == 'byol' and protocol == 'knn'")
    assert list(zip(part["condition"], part["share"], strict=True)) == [
        ("labels", 1.0), ("labels", 0.5), ("labels", 0.1), ("positives", 0.2),
    ]  # fmt: skip
    assert part["n_train"].tolist() == [300, 150, 30, 60]
    assert part["n_positive"].tolist()[1:] == [30, 6, 12]
    assert part["draws"].tolist() == [1, 2, 2, 2]
    assert part["seeds"].tolist() == [2, 2, 2, 2]
    assert (found["ci_low"] < found["auc"]).all()
    assert (found["auc"] < found["ci_high"]).all()


def test_all_labels_stand_as_on_the_leaderboard() -> None:
    results = [with_curve(seed=seed) for seed in (0, 1, 2)]
    names = ["auc", "ci_low", "ci_high", "interval", "spread", "seeds", "n_test", "task", "settings"]
    found = curves(results).query("share == 1").set_index("protocol")[names].sort_index()
    board = leaderboard(results).set_index("protocol")[names].sort_index()
    pd.testing.assert_frame_equal(found, board)


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_mean_over_the_draws_of_a_seed_is_one_repetition_and_so_is_each_draw_of_one_seed(seeds: int) -> None:
    found = curves([with_curve(seed=seed, draws=3) for seed in range(seeds)])
    row = found.query("protocol == 'linear' and share == 0.1").iloc[0]
    layers = np.stack([prediction(0.4, seed, draw, 0, 10) for seed in range(seeds) for draw in range(3)])
    counts = resample_cases(LABELS, 2000, np.random.default_rng(BOOTSTRAP_SEED))
    each = resample(LABELS, layers, counts)
    if seeds > 1:
        means = [each.aucs[:3].mean(), each.aucs[3:].mean()]
        resampled = Resampled(np.array(means), each.draws.reshape(-1, seeds, 3).mean(axis=2))
    else:
        resampled = each
    se, df = standard_error(resampled)
    low, high = logit_limits(resampled.aucs.mean(keepdims=True), np.array([se]), 60, df=df)
    assert row["auc"] == pytest.approx(resampled.aucs.mean())
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low[0], high[0]))
    assert row["spread"] == pytest.approx(resampled.aucs.std(ddof=1))
    assert (row["interval"], row["draws"], row["seeds"]) == ("bootstrap", 3, seeds)
    assert ("leaves out the variance of the encoder's seed" in str(row["note"])) == (seeds == 1)


def test_one_draw_of_one_seed_has_delongs_interval() -> None:
    row = curves([with_curve(draws=1)]).query("protocol == 'knn' and share == 0.5").iloc[0]
    expected = auc_interval(LABELS, prediction(1.0, 0, 0, 1, 50)[:, 1])
    assert (row["auc"], row["ci_low"]) == pytest.approx((expected.estimate, expected.low))
    assert row["interval"] == "DeLong"
    assert pd.isna(row["spread"])


def test_a_curve_of_positives_alone_has_no_row_of_all_labels() -> None:
    result, table = with_curve()
    points = tuple(point for point in result.curve if point.positives is not None)
    found = curves([(result.model_copy(update={"curve": points}), table)])
    assert set(found["condition"]) == {"positives"}


def test_without_curves_there_is_no_table_and_no_file(tmp_path: Path) -> None:
    assert curves([cell()]).empty
    write_tables(tmp_path, [cell()])
    assert not (tmp_path / "curves.csv").exists()


def test_curves_come_back_from_their_file_unchanged(tmp_path: Path) -> None:
    results = [with_curve(seed=seed) for seed in (0, 1)]
    write_tables(tmp_path, results)
    pd.testing.assert_frame_equal(read_table(tmp_path / "curves.csv", COLUMNS), curves(results), check_exact=True)


def test_one_class_in_the_test_set_leaves_the_auc_out_and_says_why() -> None:
    labels = np.ones(10, int)
    p = np.full((10, 2), 0.5)
    result, table = cell(labels=labels, recipe={"evaluate": {"labels": [0.5], "protocols": ["knn"]}})
    score = protocol_score(Prediction(p, 0.5), labels)
    point = CurvePoint(condition="labels=0.5 draw=0", protocol="knn", labels=0.5, draw=0, n_train=4, score=score)
    more = predictions_frame(IDS[:10], labels, {"knn": p}, point.condition)
    found = curves([(result.model_copy(update={"curve": (point,)}), pd.concat([table, more]))])
    assert found["auc"].isna().all()
    assert (found["note"] == "all 10 test cases are of class 1").all()

"""Means over tasks and over folds: intervals that cover, tests that reject at their rate, tables that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri

from ssl3d.errors import RunError
from ssl3d.evaluate.statistics.estimate import Estimate, mean_of
from ssl3d.evaluate.statistics.inference import interval, paired, standard_error
from ssl3d.recipe import CorpusPart
from ssl3d.results.results import Evaluated, Failed
from ssl3d.tables.formats.render import render
from ssl3d.tables.tables import Tables
from tests.evaluate.estimates import auc_interval, of_scores
from tests.records import LABELS, aucs, by_column, evaluated, failed, results

N = 120
PREVALENCE = (0.79, 0.45, 0.43)  # abnormal, acl, meniscus in MRNet's validation exams
TRUE = (0.9, 0.85, 0.75)
Tasks = tuple[list[np.ndarray], list[list[np.ndarray]]]


# Statistics of several tasks


def exams(rng: np.random.Generator, methods: int = 1) -> Tasks:
    """Labels (N,) of three correlated tasks, and for each method its scores (N,), correlated in every way."""
    disease, look = rng.standard_normal((2, N))
    labels, scores = [], []
    for prevalence, auc in zip(PREVALENCE, TRUE, strict=True):
        own, seen = rng.standard_normal((2, N))
        y = (np.sqrt(0.5) * disease + np.sqrt(0.5) * own < ndtri(prevalence)).astype(int)
        noise = [
            np.sqrt(0.4) * look + np.sqrt(0.4) * seen + np.sqrt(0.2) * rng.standard_normal(N) for _ in range(methods)
        ]
        labels.append(y)
        scores.append([x + y * ndtri(auc) * np.sqrt(2) for x in noise])
    return labels, scores


def means(tasks: Tasks) -> list[Estimate]:
    """The mean over tasks of each method."""
    labels, scores = tasks
    return [
        mean_of([[of_scores(y, of_task[method]) for y, of_task in zip(labels, scores, strict=True)]])
        for method in range(len(scores[0]))
    ]


def test_intervals_of_the_mean_over_tasks_cover_at_their_stated_rate() -> None:
    rng, trials = np.random.default_rng(0), 600
    found = [interval(means(exams(rng))[0]) for _ in range(trials)]
    assert np.mean([one.low <= np.mean(TRUE) <= one.high for one in found]) == pytest.approx(0.95, abs=0.025)


def test_the_test_of_two_means_over_tasks_rejects_equal_methods_at_its_stated_rate() -> None:
    rng, trials = np.random.default_rng(1), 400
    drawn = [means(exams(rng, methods=2)) for _ in range(trials)]
    rejected = [paired(a, b).p < 0.05 for a, b in drawn]
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.03)


def test_the_standard_error_of_the_mean_over_tasks_is_that_over_resampled_exams() -> None:
    rng = np.random.default_rng(2)
    labels, scores = exams(rng)
    aucs = []
    for _ in range(800):
        drawn = rng.integers(N, size=N)
        aucs.append(np.mean([of_scores(y[drawn], x[drawn]).scores[0] for y, (x,) in zip(labels, scores, strict=True)]))
    se = float(standard_error(means((labels, scores))[0])[0])
    assert se == pytest.approx(np.std(aucs), rel=0.08)
    alone = [auc_interval(y, x).se for y, (x,) in zip(labels, scores, strict=True)]
    assert se > 1.1 * np.sqrt(np.square(alone).sum()) / 3  # tasks of one exam err together


# Statistics of several folds


def folded(rng: np.random.Generator, auc: float, methods: int = 1, k: int = 5) -> list[tuple[np.ndarray, ...]]:
    """k folds of 50 cases, scored by a model each: labels and scores of each method, correlated within a case."""
    folds = []
    for _ in range(k):
        y = np.repeat([1, 0], [22, 28])
        shared = rng.standard_normal(50)
        scores = [np.sqrt(0.6) * shared + np.sqrt(0.4) * rng.standard_normal(50) for _ in range(methods)]
        folds.append((y, *(x + y * ndtri(auc) * np.sqrt(2) for x in scores)))
    return folds


def over_folds(folds: Sequence[tuple[np.ndarray, ...]], method: int = 1) -> Estimate:
    """The mean over folds of one method."""
    return mean_of([[of_scores(fold[0], fold[method])] for fold in folds])


@pytest.mark.parametrize("auc", [0.5, 0.95])
def test_intervals_of_the_mean_over_folds_cover_at_their_stated_rate(auc: float) -> None:
    rng, trials = np.random.default_rng(3), 400
    found = [interval(over_folds(folded(rng, auc))) for _ in range(trials)]
    assert np.mean([one.low <= auc <= one.high for one in found]) == pytest.approx(0.95, abs=0.03)


def test_the_test_of_two_means_over_folds_rejects_equal_methods_at_its_stated_rate() -> None:
    rng, trials = np.random.default_rng(4), 400
    drawn = [folded(rng, 0.8, 2) for _ in range(trials)]
    rejected = [paired(over_folds(folds, 1), over_folds(folds, 2)).p < 0.05 for folds in drawn]
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.03)


def test_scores_of_different_folds_are_never_ranked_against_each_other() -> None:
    rng = np.random.default_rng(5)
    (y, a), (_, b) = folded(rng, 0.8, k=2)
    apart = interval(over_folds([(y, a), (y, b + 100)]))
    assert apart == interval(over_folds([(y, a), (y, b)]))
    assert apart.estimate == pytest.approx((auc_interval(y, a).estimate + auc_interval(y, b).estimate) / 2)
    twice = interval(over_folds([(y, a), (y, a)]))
    assert twice.se == pytest.approx(auc_interval(y, a).se / np.sqrt(2))


# Tables


def tables(*found: Evaluated | Failed) -> Tables:
    return Tables(results(*found))


def three_tasks(method: str = "byol", seed: int = 0, noise: int = 0, **changes: Any) -> list[Evaluated]:
    targets = {"acl": LABELS, "meniscus": np.roll(LABELS[::-1], 7), "abnormal": np.array([1, 1, 1, 0] * 30)}
    return [
        evaluated(method, seed, labels=y, noise=noise + i, target=task, **changes)
        for i, (task, y) in enumerate(targets.items())
    ]


def mean_rows(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["task"] == "mean of abnormal, acl, meniscus"]


def test_the_mean_over_tasks_is_a_table_of_its_own() -> None:
    made = tables(
        *three_tasks("byol", strength=1.5),
        *three_tasks("simclr", noise=10, strength=1.2),
        *three_tasks("random", noise=20, strength=0),
    )
    board, pairs = made.leaderboard, made.comparisons
    rows = mean_rows(board)
    by_method = by_column(rows)
    for method in ("byol", "simclr", "random"):
        single = board[(board["method"] == method) & ~board["task"].str.startswith("mean")]
        assert by_method[method]["auc"] == pytest.approx(single["auc"].mean())
        assert by_method[method]["average_precision"] == pytest.approx(single["average_precision"].mean())
    assert set(rows["interval"]) == {"DeLong"}
    assert set(rows["n_test"]) == {120}
    assert by_method["random"]["group"] != by_method["byol"]["group"]
    assert len(mean_rows(pairs)) == 3
    assert (mean_rows(pairs)["test"] == "DeLong").all()
    assert mean_rows(pairs)["p_holm"].min() == pytest.approx(min(1, 3 * mean_rows(pairs)["p"].min()))
    text = render(board, pairs, "md")
    assert text.index("task mean of abnormal, acl, meniscus") < text.index("task meniscus")  # the headline comes first
    assert text.count("Scores are means over tasks") == 1


def test_a_task_alone_has_the_same_rows_as_among_others() -> None:
    found = [*three_tasks("byol"), *three_tasks("simclr", noise=10)]
    among, alone = tables(*found), tables(*(one for one in found if one.record.recipe.task == "acl"))
    for name in ("leaderboard", "comparisons"):
        table = getattr(among, name).drop(columns="primary")
        pd.testing.assert_frame_equal(
            table[table["task"] == "acl"].reset_index(drop=True), getattr(alone, name).drop(columns="primary")
        )


def test_there_is_no_mean_over_tasks_of_different_cases_or_of_some_tasks() -> None:
    _, *others = three_tasks()
    other_cases = evaluated("byol", ids=[f"x{i}" for i in range(len(LABELS))], target="acl")
    assert mean_rows(tables(other_cases, *others).leaderboard).empty
    partly = tables(*three_tasks(), *three_tasks("moco", noise=3)[1:])
    assert list(mean_rows(partly.leaderboard)["method"]) == ["byol"]


def test_data_sets_have_means_of_their_own() -> None:
    elsewhere = three_tasks(recipe={"data": "knees"}, data={"fingerprint": "beef"})[:1]
    rows = mean_rows(tables(*three_tasks(), *elsewhere).leaderboard)
    assert list(rows["data"]) == ["demo"]


def test_seeds_that_lack_a_task_are_left_out_of_the_mean_and_named() -> None:
    made = tables(*three_tasks(seed=0), *three_tasks(seed=1), *three_tasks(seed=2)[1:])
    row = mean_rows(made.leaderboard).iloc[0]
    assert (row["seeds"], row["status"]) == (2, "partial")
    assert "seed 2 is left out: it is not complete for every task" in row["note"]


def folds(method: str, seed: int = 0, k: int = 3, noise: int = 0, strength: float = 1.0) -> list[Evaluated]:
    """One evaluation per fold, of 40 cases each."""
    return [
        evaluated(
            method,
            seed,
            strength,
            labels=LABELS[:40],
            noise=noise + 100 * fold,
            ids=[f"{fold}-{i}" for i in range(40)],
            recipe={"folds": k, "fold": fold},
            encoder_recipe={"corpus": (CorpusPart(plane="sagittal", folds=k, fold=fold),)},
        )
        for fold in range(k)
    ]


def test_folds_of_one_seed_are_one_row_with_delongs_interval_within_folds() -> None:
    a, b = folds("byol"), folds("simclr", noise=7)
    made = tables(*a, *b)
    row = made.leaderboard.set_index("method").loc["byol"]
    predicted = [
        (one.predictions["label"].to_numpy(), one.predictions["p_1"].to_numpy(), other.predictions["p_1"].to_numpy())
        for one, other in zip(a, b, strict=True)
    ]
    expected = interval(over_folds(predicted))
    assert (row["auc"], row["ci_low"], row["ci_high"]) == pytest.approx(
        (expected.estimate, expected.low, expected.high)
    )
    assert (row["interval"], row["seeds"], row["folds"], row["n_test"], row["status"]) == ("DeLong", 1, 3, 120, "done")
    assert row["n_test_patients"] == 120
    test = paired(over_folds(predicted, 1), over_folds(predicted, 2))
    assert made.comparisons.iloc[0]["p"] == pytest.approx(test.p)
    assert abs(made.comparisons.iloc[0]["difference"]) == pytest.approx(abs(test.estimate))
    for form in ("md", "latex"):
        text = render(made.leaderboard, made.comparisons, form)
        assert "3-fold cross-validation" in text
        assert "treat these as independent" in text


def test_folds_and_seeds_vary_within_folds() -> None:
    found = [one for seed in range(3) for one in folds("byol", seed)]
    row = tables(*found).leaderboard.iloc[0]
    assert (row["interval"], row["seeds"], row["n_test"]) == ("DeLong and seeds", 3, 120)
    assert row["auc"] == pytest.approx(np.mean(aucs(found)))
    assert row["spread"] == pytest.approx(np.std(np.mean(np.reshape(aucs(found), (3, 3)), axis=1), ddof=1))
    alone = tables(*found[:3]).leaderboard.iloc[0]
    assert row["ci_high"] - row["ci_low"] < 1.3 * (alone["ci_high"] - alone["ci_low"])


def test_a_seed_that_lacks_a_fold_is_left_out_and_named() -> None:
    recipe = {"folds": 3, "fold": 2}
    corpus = {"corpus": (CorpusPart(plane="sagittal", **recipe),)}
    broken = failed("byol", 1, "the loss is not finite", recipe=recipe, encoder_recipe=corpus)
    row = tables(*folds("byol"), *folds("byol", 1)[:2], broken).leaderboard.iloc[0]
    assert (row["seeds"], row["status"]) == (1, "partial")
    assert "seed 1 failed: the loss is not finite" in row["note"]
    assert "seed 1 is left out: fold 2 of 3 is not done" in row["note"]
    unfinished = tables(*folds("byol")[:2]).leaderboard.iloc[0]
    assert (unfinished["status"], pd.isna(unfinished["auc"])) == ("partial", True)


def test_evaluations_with_and_without_folds_are_not_compared() -> None:
    with pytest.raises(RunError, match=r"number of folds differs \(None and 3\)"):
        tables(evaluated("simclr"), *folds("byol")).leaderboard  # noqa: B018

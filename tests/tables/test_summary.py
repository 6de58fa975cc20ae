"""The summary over tasks: means and ranks as observed, intervals as in the tables, patients kept together."""

from __future__ import annotations

import numpy as np
import pytest

from ssl3d.results.results import Evaluated
from ssl3d.tables.formats.markdown import to_markdown
from ssl3d.tables.formats.summary import overview
from ssl3d.tables.standings import standings
from ssl3d.tables.summary import drawn_over_tasks
from ssl3d.tables.tables import Tables
from ssl3d.tables.write import table_files
from ssl3d.task import Task
from tests.records import LABELS, evaluated, results, with_prediction

TASKS = ("abnormal", "acl", "meniscus")


def run(*methods: tuple[str, float], seeds: int = 3, tasks: tuple[str, ...] = TASKS) -> list[Evaluated]:
    return [
        evaluated(name, seed, strength, target=task, noise=1 + 100 * m + 10 * seed + t)
        for m, (name, strength) in enumerate(methods)
        for t, task in enumerate(tasks)
        for seed in range(seeds)
    ]


def test_means_and_ranks_are_those_of_the_tables() -> None:
    made = Tables(results(*run(("byol", 1.5), ("moco", 0.9), ("random", 0.1))))
    table = made.summary.set_index("method")
    single = made.leaderboard[~made.leaderboard["task"].str.startswith("mean")]
    for method, rows in single.groupby("method"):
        assert table.loc[method, "mean_score"] == pytest.approx(rows["score"].mean())
    ranks = single.assign(rank=single.groupby("task")["score"].rank(ascending=False)).groupby("method")["rank"].mean()
    assert dict(table["mean_rank"]) == pytest.approx(dict(ranks))
    assert list(table.index) == ["byol", "moco", "random"]
    assert set(table["tasks"]) == {3}
    assert (table["rank_low"] <= table["mean_rank"]).all()
    assert (table["mean_rank"] <= table["rank_high"]).all()
    pairs = made.wins.set_index(["method_a", "method_b"])["wins"]
    assert pairs["byol", "moco"] + pairs["moco", "byol"] == pytest.approx(1)
    assert pairs["byol", "random"] > 0.95
    assert table.loc["byol", "wins"] == pytest.approx((pairs["byol", "moco"] + pairs["byol", "random"]) / 2)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_interval_of_the_mean_is_that_of_the_table_of_means(seeds: int) -> None:
    """The mean over tasks of one data set has an interval in closed form, which the draws must agree with."""
    made = Tables(results(*run(("byol", 1.0), ("moco", 0.8), seeds=seeds)))
    mean = next(one for one in made.standings if one.entry.key.is_mean and one.entry.key.method == "byol")
    assert mean.interval is not None
    (drawn,) = drawn_over_tasks(made.entries)
    spread = drawn.draws.mean(axis=0)[drawn.names.index(("byol", "tiny"))].std()
    assert spread == pytest.approx(mean.interval.se, rel=0.1)


def test_patients_are_drawn_together_for_all_tasks() -> None:
    """The same predictions for three tasks tell no more than for one."""
    one = [evaluated("byol", noise=1), evaluated("moco", strength=0.8, noise=2)]
    same = [
        evaluated(name, strength=s, noise=n, target=t)
        for t in TASKS
        for name, s, n in (("byol", 1.0, 1), ("moco", 0.8, 2))
    ]
    (drawn,) = drawn_over_tasks(Tables(results(*same)).entries)
    alone = [standing.interval for standing in standings(Tables(results(*one)).entries)[0]]
    assert [drawn.draws.mean(axis=0)[m].std() for m in range(2)] == pytest.approx([i.se for i in alone if i], rel=0.1)


def test_methods_that_lack_a_task_and_tables_alone_have_no_summary() -> None:
    assert Tables(results(*run(("byol", 1.0), ("moco", 0.5), tasks=("acl",)))).summary.empty
    partly = [*run(("byol", 1.0), ("moco", 0.5)), *run(("simclr", 0.7), tasks=("acl", "meniscus"))]
    assert set(Tables(results(*partly)).summary["method"]) == {"byol", "moco"}


def test_every_draw_is_the_same_again_and_it_is_written_and_shown() -> None:
    found = results(*run(("byol", 1.0), ("moco", 0.5), seeds=2))
    made, again = Tables(found), Tables(found)
    np.testing.assert_array_equal(made.summary["rank_low"], again.summary["rank_low"])
    assert {"summary.csv", "wins.csv"} <= set(table_files(made))
    text = to_markdown(made.leaderboard, made.comparisons, overview(made))
    assert text.index("Summary over 3 tasks") < text.index("task mean of")


def test_with_one_seed_encoders_are_summed_up_without_ranks() -> None:
    made = Tables(results(*run(("byol", 1.0), ("moco", 0.5), seeds=1)))
    text = to_markdown(made.leaderboard, made.comparisons, overview(made))
    assert "encoders are compared and not methods: there are no ranks" in text
    assert "mean rank" not in text
    assert made.wins.empty


def test_an_encoder_that_serves_two_data_sets_varies_in_both_at_once() -> None:
    """Predictions of the same cases under another name of the data set add patients, and no seed."""

    def spread(*names: str) -> float:
        found = [
            evaluated(
                method, seed, 1.0 + 0.5 * (seed - 1), noise=1, recipe={"data": name}, data={"fingerprint": name * 2}
            )
            for name in names
            for method in ("byol", "moco")
            for seed in range(3)
        ]
        two = [*found, *run(("byol", 1.0), ("moco", 0.5), tasks=("meniscus",))] if len(names) == 1 else found
        (drawn,) = drawn_over_tasks(Tables(results(*two)).entries)
        return float(drawn.draws[: len(names)].mean(axis=0)[0].std())

    assert spread("aa", "bb") > 0.9 * spread("aa")  # independent seeds would give 0.71


def test_errors_in_different_units_have_no_mean() -> None:
    def of(unit: str, name: str) -> list[Evaluated]:
        task, rng = Task(name=name, kind="regression", classes=(), unit=unit), np.random.default_rng(0)
        values = rng.uniform(20, 80, len(LABELS))
        return [
            with_prediction(evaluated(method, seed), task, values, (values + rng.normal(0, 3, len(LABELS)))[:, None])
            for method in "ab"
            for seed in (0, 1)
        ]

    same, other = (Tables(results(*of("years", "age"), *of(unit, "older"))).summary for unit in ("years", "mm"))
    assert same["mean_score"].notna().all()
    assert other["mean_score"].isna().all()
    assert other["mean_rank"].notna().all()


def test_a_perfect_score_is_not_certain() -> None:
    found = [
        evaluated(m, s, 50.0, target=t, noise=10 * i + s) for t in TASKS for i, m in enumerate("ab") for s in (0, 1)
    ]
    row = Tables(results(*found)).summary.iloc[0]
    assert (row["mean_score"], row["score_high"]) == (1.0, 1.0)
    assert row["score_low"] < 0.99

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
from tests.records import evaluated, results

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
    found = results(*run(("byol", 1.0), ("moco", 0.5), seeds=1))
    made, again = Tables(found), Tables(found)
    np.testing.assert_array_equal(made.summary["rank_low"], again.summary["rank_low"])
    assert {"summary.csv", "wins.csv"} <= set(table_files(made))
    text = to_markdown(made.leaderboard, made.comparisons, overview(made))
    assert text.index("Summary over 3 tasks") < text.index("task mean of")
    assert "one seed" in text

"""Leaderboard, comparisons and their renderings."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from ssl3d.errors import RunError
from ssl3d.evaluate.statistics.delong import auc_interval, paired_test
from ssl3d.tables import comparisons as comparisons_module
from ssl3d.tables import leaderboard as leaderboard_module
from ssl3d.tables.comparable import check_shared
from ssl3d.tables.comparisons import comparisons
from ssl3d.tables.leaderboard import cells, leaderboard
from ssl3d.tables.render import render, to_rich
from ssl3d.tables.typed import read_table
from ssl3d.tables.write import write_tables
from tests.cells import LABELS, Cell, cell, failed

ONE = {"evaluate": {"protocols": ["linear"]}}


def three_methods() -> list[Cell]:
    """Two that cannot be separated, and one far below them."""
    strong = [cell("byol", strength=1.6, noise=1), cell("simclr", strength=1.6, noise=5)]
    return [*strong, cell("random", strength=0.0, noise=3)]


def test_one_row_a_method_and_protocol_best_first() -> None:
    table = leaderboard(three_methods())
    assert list(table["protocol"]) == ["linear"] * 3 + ["knn"] * 3
    for _, rows in table.groupby("protocol"):
        assert rows["auc"].is_monotonic_decreasing
        assert set(rows["method"]) == {"byol", "simclr", "random"}
    assert (table["ci_low"] < table["auc"]).all()
    assert (table["auc"] < table["ci_high"]).all()


def test_methods_that_cannot_be_separated_share_a_rank_and_a_letter() -> None:
    table = leaderboard(three_methods()).query("protocol == 'linear'").set_index("method")
    assert table.loc["byol", "rank"] == table.loc["simclr", "rank"] == 1
    assert table.loc["random", "rank"] == 3
    assert table.loc["byol", "group"] == table.loc["simclr", "group"] == "a"
    assert table.loc["random", "group"] == "b"


def test_one_seed_has_delongs_interval_and_test() -> None:
    a, b = cell("byol", recipe=ONE, noise=1), cell("simclr", recipe=ONE, noise=2)
    p = {method: table["p_1"].to_numpy() for method, table in (("byol", a[1]), ("simclr", b[1])) if table is not None}
    row = leaderboard([a, b]).set_index("method").loc["byol"]
    interval = auc_interval(LABELS, p["byol"])
    assert (row["auc"], row["ci_low"], row["ci_high"]) == pytest.approx(
        (interval.estimate, interval.low, interval.high)
    )
    assert (row["interval"], row["seeds"], np.isnan(row["spread"])) == ("DeLong", 1, True)
    pair = comparisons([a, b]).iloc[0]
    test = paired_test(LABELS, p[pair["method_a"]], p[pair["method_b"]])
    assert (pair["p"], pair["p_holm"], pair["difference"]) == pytest.approx((test.p, test.p, test.estimate))
    assert pair["test"] == "DeLong"


def test_several_seeds_are_averaged_with_their_spread() -> None:
    seeds = [cell("byol", seed, strength=1 + seed / 4, noise=1, recipe=ONE) for seed in range(3)]
    row = leaderboard(seeds).iloc[0]
    aucs = [result.scores["linear"].metrics["auc"] for result, _ in seeds]
    assert row["auc"] == pytest.approx(np.mean(aucs))
    assert row["spread"] == pytest.approx(np.std(aucs, ddof=1))
    assert (row["seeds"], row["interval"], row["pretrain_seconds"]) == (3, "bootstrap", 11.0)


def test_a_table_made_again_is_the_same_table_in_any_order_of_cells() -> None:
    results = [cell(method, seed, noise=n) for n, method in enumerate("abc") for seed in range(2)]
    pd.testing.assert_frame_equal(leaderboard(results), leaderboard(results[::-1]), check_exact=False, rtol=1e-12)
    pd.testing.assert_frame_equal(comparisons(results), comparisons(results[::-1]), check_exact=False, rtol=1e-12)


def test_predictions_are_joined_by_case_not_by_order() -> None:
    order = np.random.default_rng(0).permutation(len(LABELS))
    straight = comparisons([cell("byol", noise=1), cell("simclr", noise=2)])
    shuffled = comparisons([cell("byol", noise=1), cell("simclr", noise=2, order=order)])
    pd.testing.assert_frame_equal(straight, shuffled)


def test_p_values_are_corrected_over_all_pairs_of_a_protocol() -> None:
    table = comparisons([cell(name, noise=i, strength=1 + 0.1 * i) for i, name in enumerate("abcd")])
    assert (table.groupby("protocol").size() == 6).all()
    assert (table["p_holm"] >= table["p"]).all()
    for _, rows in table.groupby("protocol"):
        assert rows["p_holm"].min() == pytest.approx(min(1.0, 6 * rows["p"].min()))


def test_verdicts_are_words() -> None:
    table = comparisons(three_methods()).query("protocol == 'linear'").set_index(["method_a", "method_b"])
    assert table.loc[("byol", "random"), "verdict"] == "byol better than random"
    tied = table[table.index.map(lambda pair: "random" not in pair)].iloc[0]
    assert tied["verdict"] == "cannot be separated"
    assert tied["smallest_detectable"] > tied["difference"]


def test_failed_cells_stay_in_the_table_with_their_reason() -> None:
    results = [cell("byol"), failed("moco"), cell("simclr", 0, noise=4), failed("simclr", 1, "diverged")]
    table = leaderboard(results).query("protocol == 'knn'").set_index("method")
    assert table.loc["moco", "status"] == "failed"
    assert table.loc["moco", "note"] == "seed 0 failed: out of memory"
    assert pd.isna(table.loc["moco", "rank"])
    assert table.loc["simclr", "status"] == "partial"
    assert "diverged" in table.loc["simclr", "note"]
    assert table.index[-1] == "moco"
    assert len(cells(results).query("status == 'failed'")) == 2


def test_nothing_but_failures_is_still_a_table() -> None:
    table = leaderboard([failed("moco")])
    assert list(table["status"]) == ["failed", "failed"]
    assert comparisons([failed("moco")]).empty
    assert "No cell has finished" in render(table, comparisons([failed("moco")]), "md")
    assert leaderboard([]).empty


def test_one_class_in_the_test_set_leaves_no_auc_and_says_why() -> None:
    labels = np.ones(20, int)
    table = leaderboard([cell("byol", labels=labels), cell("simclr", labels=labels, noise=3)])
    assert table["auc"].isna().all()
    assert table["rank"].isna().all()
    assert table["note"].str.contains("no auc: all 20 test cases are of class 1").all()
    assert comparisons([cell("byol", labels=labels), cell("simclr", labels=labels)]).empty


def test_more_than_two_classes_are_bootstrapped() -> None:
    labels = np.arange(90) % 3
    results = [cell(name, labels=labels, K=3, noise=i, strength=1.5 - i) for i, name in enumerate("ab")]
    table = leaderboard(results)
    assert set(table["interval"]) == {"bootstrap"}
    assert table["sensitivity"].isna().all()
    assert table["log_loss"].notna().all()
    assert comparisons(results)["verdict"].str.fullmatch("a better than b").all()


def test_the_same_seed_in_two_runs_counts_once() -> None:
    table = leaderboard([cell("byol"), cell("byol")])
    assert (table["seeds"] == 1).all()
    assert table["note"].str.contains("more than one result").all()


def test_other_settings_are_another_row() -> None:
    table = leaderboard([cell("byol", recipe=ONE), cell("byol", recipe=ONE | {"pretrain": {"epochs": 3}}, noise=5)])
    assert len(table) == 2
    assert table["settings"].nunique() == 2


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("fingerprint", "beef", "data fingerprint differs ('f00d' and 'beef')"),
        ("name", "mrnet", "data set differs ('demo' and 'mrnet')"),
        ("n_train", 299, "split (training volumes) differs"),
    ],
)
def test_what_is_not_comparable_is_refused_with_the_reason(field: str, value: object, said: str) -> None:
    other = cell("simclr", data={field: value})
    for make in (leaderboard, comparisons):
        with pytest.raises(RunError) as error:
            make([cell("byol"), other])
        assert said in str(error.value)
        assert "byol-tiny-s0 and simclr-tiny-s0" in str(error.value)


@pytest.mark.parametrize(("field", "value"), [("task", "meniscus"), ("plane", "axial")])
def test_other_tasks_and_planes_stand_in_tables_of_their_own(field: str, value: str) -> None:
    results = [cell("byol"), cell("simclr", noise=2), cell("random", data={field: value})]
    board = leaderboard(results)
    assert list(board[board[field] == value]["method"]) == ["random", "random"]
    assert (board[board[field] == value]["rank"] == 1).all()
    assert set(comparisons(results)[field]) == set(board[field]) - {value}
    assert render(board, comparisons(results), "md").count("| protocol |") == 2
    assert render(board, comparisons(results), "latex").count(r"\begin{table}") == 3  # and the price


@pytest.mark.parametrize(("field", "value"), [("task", "meniscus"), ("plane", "axial")])
def test_runs_that_share_no_task_and_plane_are_refused(field: str, value: str) -> None:
    one, other = [cell("byol")[0]], [cell("simclr", data={field: value})[0]]
    check_shared([one, one])
    check_shared([one, [*one, *other]])
    with pytest.raises(RunError, match=f"runs cannot be compared: {field} differs"):
        check_shared([one, other])


def test_other_inner_folds_are_refused() -> None:
    with pytest.raises(RunError, match=r"evaluate\.inner_folds differs"):
        leaderboard([cell("byol"), cell("simclr", recipe={"evaluate": {"inner_folds": 3}})])


def test_other_test_cases_or_labels_are_refused() -> None:
    ids = [f"{i:04d}" for i in range(len(LABELS))]
    with pytest.raises(RunError, match="case '0000' is in its test set or the others'"):
        comparisons([cell("byol"), cell("simclr", ids=["x", *ids[1:]])])
    with pytest.raises(RunError, match="its label of case '0000' differs"):
        comparisons([cell("byol"), cell("simclr", labels=np.array([1, 1, *LABELS[2:]]))])
    with pytest.raises(RunError, match="predicts case '0000' twice"):
        comparisons([cell("byol"), cell("simclr", ids=["0000", "0000", *ids[2:]])])


def test_tables_come_back_from_disk_unchanged(tmp_path: Path) -> None:
    results = [*three_methods(), failed("moco"), cell("byol", 1, noise=9)]
    board = write_tables(tmp_path, results)
    tables = {
        "leaderboard.csv": (board, leaderboard_module.COLUMNS),
        "comparisons.csv": (comparisons(results), comparisons_module.COLUMNS),
        "cells.csv": (cells(results), leaderboard_module.CELL_COLUMNS),
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*tables, "leaderboard.md"])
    for name, (table, columns) in tables.items():
        pd.testing.assert_frame_equal(read_table(tmp_path / name, columns), table, check_exact=True)
        assert {c: str(t) for c, t in table.dtypes.items()} == {c: column.dtype for c, column in columns.items()}


def test_cells_hold_everything_that_is_known_of_a_cell() -> None:
    result, predictions = cell("byol", 2, notes=("warm-up clamped",))
    row = cells([(result, predictions)]).set_index("protocol").loc["knn"]
    assert (row["cell"], row["seed"], row["fingerprint"]) == ("byol-tiny-s2", 2, "f00d")
    assert row["recipe"] == result.recipe.hash()
    assert row["auc"] == result.scores["knn"].metrics["auc"]
    assert row["notes"] == "warm-up clamped"
    assert row["versions"] == '{"ssl3d": "0.1.0"}'


@pytest.mark.parametrize("form", ["md", "latex"])
def test_every_rendering_calls_synthetic_data_synthetic(form: str) -> None:
    results = three_methods()
    text = render(leaderboard(results), comparisons(results), form)
    assert "demo (synthetic data), task acl, plane sagittal, 120 test volumes" in text
    assert "pairs cannot be separated" in text
    assert "smallest difference in AUC" in text
    real = [cell("byol", data={"synthetic": False})]
    assert "synthetic" not in render(leaderboard(real), comparisons(real), form)


def test_csv_and_terminal_call_synthetic_data_synthetic() -> None:
    results = three_methods()
    board, pairs = leaderboard(results), comparisons(results)
    assert render(board, pairs, "csv").splitlines()[0].count("synthetic") == 1
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(to_rich(board, pairs, 200))
    text = console.export_text()
    assert "synthetic" in text
    assert "byol" in text


def test_markdown_shows_no_link_or_picture_from_a_name() -> None:
    results = [cell("[click](javascript:x) ![y](http://z)")]
    text = render(leaderboard(results), comparisons(results), "md")
    assert "](" not in text.replace("\\](", "")


def test_markdown_and_latex_keep_names_inside_their_cells() -> None:
    results = [cell("my_method|x & 50% <b>$")]
    board, pairs = leaderboard(results), comparisons(results)
    for part in render(board, pairs, "md").split("Price of pretraining"):
        lines = [line for line in part.splitlines() if line.startswith("|")]
        assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1
    assert "<b>" not in "".join(lines)
    latex = render(board, pairs, "latex")
    assert r"my\_method\textbar{}x \& 50\% \textless{}b\textgreater{}\$" in latex
    for part in latex.split("Price of pretraining"):
        assert len({line.replace(r"\&", "").count("&") for line in part.splitlines() if line.endswith(r"\\")}) == 1


def test_markdown_lists_departures_from_the_papers() -> None:
    results = [cell("byol", departures=("AdamW instead of LARS.",)), cell("simclr", noise=2)]
    text = render(leaderboard(results), comparisons(results), "md")
    assert text.count("- byol: AdamW instead of LARS.") == 1
    assert "- simclr" not in text


def test_latex_marks_the_best_and_its_ties() -> None:
    results = three_methods()
    latex = render(leaderboard(results), comparisons(results), "latex")
    rows = [line for line in latex.splitlines() if line.startswith("linear")]
    assert [r"\textbf" in row for row in rows] == [True, True, False]
    assert r"\toprule" in latex

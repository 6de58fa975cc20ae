"""Differences to a baseline that was named, and what pretraining cost, in every form of the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssl3d.cli import run
from ssl3d.errors import RunError
from ssl3d.evaluate.statistics.compare import holm
from ssl3d.results.records import Price
from ssl3d.tables.baseline import COLUMNS, against
from ssl3d.tables.comparisons import comparisons
from ssl3d.tables.entries import Results
from ssl3d.tables.leaderboard import leaderboard
from ssl3d.tables.render import price_to_rich, render, to_rich
from tests.cells import LABELS, cell, failed

PAPER = Price(
    pretrain_seconds=7200.0, volumes_per_second=15.25, peak_memory_bytes=3 * 2**30, flops=2.5e15, device="NVIDIA H200"
)


def several() -> Results:
    return [
        cell("byol", strength=2.0),
        cell("simclr", noise=1),
        cell("moco", strength=0.7, noise=2),
        cell("random", strength=0.2, noise=3),
    ]


def tables(results: Results, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    pairs = comparisons(results)
    return against(leaderboard(results), pairs, name), pairs


def test_differences_are_those_of_the_pairs_seen_from_the_baseline() -> None:
    board, pairs = tables(several(), "moco")
    for row in board.to_dict("records"):
        if row["method"] == "moco":
            assert pd.isna(row["difference"])
            continue
        assert row["difference"] == pytest.approx(row["auc"] - board_auc(board, row["protocol"], "moco"), abs=1e-12)
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
        names = {"moco", row["method"]}
        (pair,) = (
            p
            for p in pairs.to_dict("records")
            if {p["method_a"], p["method_b"]} == names and p["protocol"] == row["protocol"]
        )
        assert row["difference_p"] == pair["p"]
        assert abs(row["difference"]) == abs(pair["difference"])


def board_auc(board: pd.DataFrame, protocol: str, method: str) -> float:
    return float(board[(board["protocol"] == protocol) & (board["method"] == method)]["auc"].iloc[0])


def test_p_is_corrected_for_the_comparisons_with_the_baseline_alone() -> None:
    board, pairs = tables(several(), "random")
    for _, rows in board[board["method"] != "random"].groupby("protocol"):
        assert len(rows) == 3
        np.testing.assert_allclose(rows["difference_p_holm"], holm(rows["difference_p"].tolist()), atol=1e-15)
    merged = board.merge(pairs, left_on=["protocol", "method"], right_on=["protocol", "method_a"])
    merged = merged[merged["method_b"] == "random"]
    assert (merged["difference_p_holm"] <= merged["p_holm"]).all()
    assert (merged["difference_p_holm"] < merged["p_holm"]).any()


@pytest.mark.parametrize("name", ["random", "random on tiny"])
def test_every_form_shows_the_difference(name: str) -> None:
    board, pairs = tables(several(), name)
    for form in ("md", "latex", "svg"):
        text = render(board, pairs, form).replace("&#160;", " ")  # type: ignore[arg-type]  # one of them
        assert "difference" in text
        assert f"minus that of {name}" in text
    csv = render(board, pairs, "csv").splitlines()
    assert csv[0].endswith(",".join(COLUMNS))
    titles = [str(column.header) for column in to_rich(board, pairs, 300).columns]
    assert {"difference", "p"} <= set(titles)
    assert "difference" not in render(leaderboard(several()), pairs, "md").splitlines()[2]


def test_a_name_that_is_unknown_ambiguous_or_without_an_auc_is_refused() -> None:
    two = [cell("byol"), cell("random", recipe={"backbone": "r3d_18"}), cell("random", noise=1)]
    with pytest.raises(RunError, match="no row of the leaderboard is called 'randm'; did you mean 'random'"):
        tables(several(), "randm")
    with pytest.raises(RunError, match=r"could be 'random on .*', 'random on .*'; write one of them"):
        tables(two, "random")
    board, _ = tables(two, "random on r3d_18")
    assert set(board[board["difference"].isna()]["backbone"]) == {"r3d_18"}
    alike = [cell("byol"), cell("byol", noise=1, recipe={"view_size": (4, 8, 9)})]
    with pytest.raises(RunError, match=r"could be 'byol on tiny \(\w+\)', 'byol on tiny \(\w+\)'"):
        tables(alike, "byol")
    with pytest.raises(RunError, match="baseline 'moco' has no AUC"):
        tables([cell("byol"), failed("moco")], "moco")


def test_one_class_among_the_test_cases_leaves_no_difference() -> None:
    with pytest.raises(RunError, match="has no AUC"):
        tables([cell("byol", labels=LABELS * 0), cell("random", labels=LABELS * 0)], "random")


def test_the_command_shows_it_and_refuses_an_unknown_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ssl3d.cli.tables._results", lambda runs: several())
    assert run(["leaderboard", str(tmp_path), "--baseline", "random", "--format", "md"]) == 0
    assert "minus that of random" in capsys.readouterr().out
    assert run(["leaderboard", str(tmp_path), "--baseline", "kinetics"]) == 2
    assert "no row of the leaderboard is called 'kinetics'" in capsys.readouterr().err


# Price


def test_the_price_stands_in_every_form_once_a_method() -> None:
    results = [cell("byol", price=PAPER), cell("random", price=Price(device="NVIDIA H200"))]
    board, pairs = leaderboard(results), comparisons(results)
    text = render(board, pairs, "md")
    assert text.count("| byol | tiny | 120 min | 15.2 | 3 GiB | 2500 | NVIDIA H200 |") == 1
    assert "| random | tiny |  |  |  |  | NVIDIA H200 |" in text
    assert r"byol & tiny & 120 min & 15.2 & 3 GiB & 2500 & NVIDIA H200 \\" in render(board, pairs, "latex")
    table = price_to_rich(board)
    assert table is not None
    titles = ["method", "backbone", "pretraining", "vol/s", "memory", "TFLOP", "hardware"]
    assert [str(column.header) for column in table.columns] == titles
    assert "hardware" in render(board, pairs, "svg").replace("&#160;", " ")


def test_without_a_finished_cell_there_is_no_price() -> None:
    board = leaderboard([failed("moco")])
    assert price_to_rich(board) is None
    assert "Price" not in render(board, comparisons([failed("moco")]), "md")


def test_latex_marks_the_best_and_its_ties_and_gives_the_letters() -> None:
    results = [cell("byol", strength=2.0), cell("simclr", strength=2.0, noise=1), cell("random", strength=0.0, noise=2)]
    board = leaderboard(results)
    lines = [line for line in render(board, comparisons(results), "latex").splitlines() if line.startswith("linear")]
    assert ["textbf" in line for line in lines] == [True, True, False]
    group = [row["group"] for row in board.to_dict("records") if row["protocol"] == "linear"]
    assert all(f" {letter} &" in line for letter, line in zip(group, lines, strict=True))

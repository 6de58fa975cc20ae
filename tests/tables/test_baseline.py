"""Differences to a baseline that was named, and what pretraining cost, in every form of the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from ssl3d.cli.leaderboard import leaderboard
from ssl3d.errors import RunError
from ssl3d.evaluate.statistics.compare import holm
from ssl3d.results.model import Price
from ssl3d.results.results import Evaluated, Failed
from ssl3d.tables.baseline import COLUMNS, against
from ssl3d.tables.formats.render import render
from ssl3d.tables.formats.terminal import price_to_rich, to_rich
from ssl3d.tables.tables import Tables
from tests.records import LABELS, evaluated, failed, results, write_run

PAPER = Price(
    pretrain_seconds=7200.0, volumes_per_second=15.25, peak_memory_bytes=3 * 2**30, flops=2.5e15, device="NVIDIA H200"
)


def several() -> list[Evaluated]:
    return [
        one
        for protocol in ("linear", "knn")
        for one in (
            evaluated("byol", strength=2.0, protocol=protocol),
            evaluated("simclr", noise=1, protocol=protocol),
            evaluated("moco", strength=0.7, noise=2, protocol=protocol),
            evaluated("random", strength=0.2, noise=3, protocol=protocol),
        )
    ]


def tables(found: Sequence[Evaluated | Failed], name: str | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    made = Tables(results(*found))
    board, pairs = made.leaderboard, made.comparisons
    return (against(board, pairs, name) if name else board), pairs


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
        text = render(board, pairs, form).replace("&#160;", " ")
        assert "difference" in text
        assert f"minus that of {name}" in text
    csv = render(board, pairs, "csv").splitlines()
    assert csv[0].endswith(",".join(COLUMNS))
    titles = [str(column.header) for column in to_rich(board, pairs, 300).columns]
    assert {"difference", "p"} <= set(titles)
    assert "difference" not in render(tables(several())[0], pairs, "md").splitlines()[2]


def test_a_name_that_is_unknown_ambiguous_or_without_an_auc_is_refused() -> None:
    wide = {"backbone": "r3d_18"}
    two = [evaluated("byol"), evaluated("random", encoder_recipe=wide), evaluated("random", noise=1)]
    with pytest.raises(RunError, match="no row of the leaderboard is called 'randm'; did you mean 'random'"):
        tables(several(), "randm")
    with pytest.raises(RunError, match=r"could be 'random on .*', 'random on .*'; write one of them"):
        tables(two, "random")
    board, _ = tables(two, "random on r3d_18")
    assert set(board[board["difference"].isna()]["backbone"]) == {"r3d_18"}
    alike = [evaluated("byol"), evaluated("byol", noise=1, encoder_recipe={"view_size": (4, 8, 9)})]
    with pytest.raises(RunError, match=r"could be 'byol on tiny \(\w+\)', 'byol on tiny \(\w+\)'"):
        tables(alike, "byol")
    with pytest.raises(RunError, match="baseline 'moco' has no score"):
        tables([evaluated("byol"), failed("moco")], "moco")


def test_one_class_among_the_test_cases_leaves_no_difference() -> None:
    found = [evaluated("byol", labels=LABELS * 0), evaluated("random", labels=LABELS * 0)]
    with pytest.raises(RunError, match="has no score"):
        tables(found, "random")


def test_a_baseline_is_found_in_the_table_of_each_data_set() -> None:
    elsewhere: dict[str, Any] = {"recipe": {"data": "knees"}, "data": {"fingerprint": "beef"}}
    found = [*several(), evaluated("byol", **elsewhere), evaluated("random", strength=0.2, noise=3, **elsewhere)]
    board, _ = tables(found, "random")
    others = board[board["method"] != "random"]
    assert others["difference"].notna().all()
    assert board[board["data"] == "knees"]["difference_p_holm"].dropna().tolist() == pytest.approx(
        board[board["data"] == "knees"]["difference_p"].dropna().tolist()
    )


def test_the_command_shows_it_and_refuses_an_unknown_name(tmp_path: Path) -> None:
    run = str(write_run(tmp_path, results(*several())))
    shown = CliRunner().invoke(leaderboard, [run, "--baseline", "random", "--format", "md"])
    assert shown.exit_code == 0
    assert "minus that of random" in shown.output
    refused = CliRunner().invoke(leaderboard, [run, "--baseline", "kinetics"])
    assert isinstance(refused.exception, RunError)
    assert "no row of the leaderboard is called 'kinetics'" in str(refused.exception)


@pytest.mark.parametrize("form", ["table", "md", "csv", "latex", "svg"])
def test_the_command_prints_every_form(tmp_path: Path, form: str) -> None:
    run = str(write_run(tmp_path, results(evaluated("byol"))))
    shown = CliRunner().invoke(leaderboard, [run, "--format", form])
    assert shown.exit_code == 0, shown.exception
    assert "byol" in shown.output
    assert "synthetic" in shown.output


# Price


def test_the_price_stands_in_every_form_once_per_method() -> None:
    unpriced = {"price": Price(device="NVIDIA H200")}
    found = [
        evaluated("byol", encoder_fields={"price": PAPER}),
        evaluated("byol", protocol="knn", encoder_fields={"price": PAPER}),
        evaluated("random", encoder_fields=unpriced),
    ]
    board, pairs = tables(found)
    text = render(board, pairs, "md")
    assert text.count("| byol | tiny | 120 min | 15.2 | 3 GiB | 2500 | NVIDIA H200 |") == 1
    assert "random" not in text.partition("Price of pretraining")[2]  # it has not been pretrained
    assert r"byol & tiny & 120 min & 15.2 & 3 GiB & 2500 & NVIDIA H200 \\" in render(board, pairs, "latex")
    table = price_to_rich(board)
    assert table is not None
    titles = ["method", "backbone", "pretraining", "vol/s", "memory", "TFLOP", "hardware"]
    assert [str(column.header) for column in table.columns] == titles
    assert "hardware" in render(board, pairs, "svg").replace("&#160;", " ")


def test_the_price_is_given_per_corpus_where_there_are_several() -> None:
    other = evaluated("byol", plane="axial", encoder_fields={"price": PAPER})
    board, pairs = tables([evaluated("byol"), other])
    text = render(board, pairs, "md")
    assert "| byol | tiny | demo axial | 120 min |" in text
    assert "| byol | tiny | demo sagittal | 10 s |" in text


def test_without_a_complete_evaluation_there_is_no_price() -> None:
    board, pairs = tables([failed("moco")])
    assert price_to_rich(board) is None
    assert "Price" not in render(board, pairs, "md")

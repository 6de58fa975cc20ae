"""The tables of the report: every kind of task, further scores, pairs, and the summary over tasks."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from ssl3d.report.cases import cases
from ssl3d.report.material import Run
from ssl3d.report.page import render
from ssl3d.report.tables.cells import Table
from ssl3d.report.tables.further import further
from ssl3d.report.tables.over_tasks import summed
from ssl3d.report.tables.pairs import paired
from ssl3d.report.tables.ranking import ranked
from ssl3d.report.words import doubts, findings
from ssl3d.task import Kind
from tests.records import evaluated, results
from tests.report.pages import of_kind, read

SCORES: dict[Kind, str] = {"regression": "MAE", "multilabel": "AUC", "ordinal": "kappa", "multiclass": "AUC"}


def column(of: Table, title: str) -> list[str]:
    """The texts of a column."""
    index = [one.title for one in of.columns].index(title)
    return [row[index].text for row in of.rows]


def of_kinds(*kinds: Kind, seeds: int = 2) -> Run:
    """Two methods on a task of each kind."""
    methods = enumerate(("byol", "simclr"))
    return read(results(*(of_kind(kind, name, s, m) for m, name in methods for kind in kinds for s in range(seeds))))


@pytest.mark.parametrize("kind", SCORES)
def test_every_kind_of_task_has_a_whole_page(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl3d.report.roc.VALUES", 1)  # fewest resamples
    run, title = of_kinds(kind), SCORES[kind]
    page = render(run)
    first = run.rows[0]
    best = "smallest" if kind == "regression" else "highest"
    assert f"{first['method']} has the {best} {title}, " in findings(run)[0]
    scores = [float(text.split()[0]) for text in column(ranked(run), title)]
    assert scores == sorted(scores, reverse=kind != "regression")
    (plot,) = re.findall(r'<section id="forest".*?</section>', page, re.DOTALL)
    assert f">{'MAE (years), smaller is better' if kind == 'regression' else title}</text>" in plot
    assert ("chance" in plot) == (kind != "regression")
    assert ("No method has an AUC, so there is no ROC curve" in page) == (kind in {"regression", "multilabel"})
    assert len(paired(run).rows) == 1
    assert len(cases(run, None).drawings) == 1
    assert not any(f"no {title}" in text for text in doubts(run))


def test_further_scores_are_named_with_intervals_and_letters() -> None:
    found = further(of_kinds("ordinal"))
    assert column(found, "metric") == ["Spearman"] * 2 + ["AUC"] * 2
    assert all(re.fullmatch(r"\d\.\d{3} \(.*\)", text) for text in column(found, "score"))
    assert set(column(found, "group")) <= {"a", "b", "ab"}
    assert column(further(of_kinds("multilabel")), "label") == ["a", "a", "b", "b"]
    assert not further(of_kinds("binary")).rows
    assert "AUC" not in [one.title for one in further(of_kinds("regression")).columns]


@pytest.mark.usefixtures("undrawn")
def test_further_scores_of_many_methods_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl3d.report.tables.further.MOST", 3)
    run = of_kinds("ordinal", seeds=1)
    assert (len(further(run).rows), further(run).left_out) == (3, 1)
    assert "1 more row is in scores.csv" in render(run)


@pytest.mark.usefixtures("undrawn")
def test_several_tasks_are_summed_up_first_and_scores_are_named_where_they_differ() -> None:
    run = of_kinds("binary", "ordinal", "regression")
    (sentences, table), (_, square) = summed(run)
    assert sentences.startswith("Summary over 3 tasks (synthetic data), linear: ")
    assert "mean rank" in [one.title for one in table.columns]
    assert all(one.meaning for one in table.columns)
    ranks = [float(text.split()[0]) for text in column(table, "mean rank")]
    assert ranks == sorted(ranks)
    assert [row[0].text for row in square.rows] == column(table, "method")
    page = render(run)
    assert page.index('id="summary"') < page.index('id="ranking"')
    assert set(column(ranked(run), "metric")) == set(column(paired(run), "metric")) == {"AUC", "kappa", "MAE"}
    assert [one.title for one in ranked(of_kinds("binary")).columns].count("AUC") == 1
    assert summed(of_kinds("binary")) == []
    assert 'id="summary"' not in render(of_kinds("binary"))


def test_pairs_name_the_family_of_their_correction() -> None:
    run = read(results(*(evaluated(f"m{k}", 0, 1.0 + k, protocol=p, noise=k) for k in range(3) for p in ("knn", "x"))))
    assert column(paired(run), "family") == ["3"] * 6


def test_the_pairs_shown_are_those_of_the_first_method_and_of_neighbours() -> None:
    run = read(results(*(evaluated(f"m{k:02d}", strength=1 + k / 10, noise=k) for k in range(20))))
    shown = paired(run)
    assert (len(shown.rows), shown.left_out) == (21, 169)
    pairs = list(zip(column(shown, "A"), column(shown, "B"), strict=True))
    ranking = [run.name_of_row(row) for row in run.rows]
    assert pairs[:10] == [(ranking[0], other) for other in ranking[1:11]]
    assert pairs[10:] == list(pairwise(ranking[1:13]))

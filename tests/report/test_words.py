"""Findings and doubts: they agree with the tests, and name what is missing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ssl3d.report.forest import forest
from ssl3d.report.material import Run
from ssl3d.report.page import render
from ssl3d.report.tables.ranking import ranked
from ssl3d.report.words import doubts, findings, primary_comparison
from ssl3d.results.model import Collapse
from tests.records import evaluated, failed, results
from tests.report.pages import read

pytestmark = pytest.mark.usefixtures("undrawn")


def test_failed_and_collapsed_encoders_are_marked() -> None:
    fallen = Collapse(feature_std=0.0, rankme=1.0, collapsed=True)
    found = [evaluated("byol", encoder_fields={"collapse": fallen}), evaluated("simclr", noise=1)]
    page = render(read(results(*found, failed("moco", reason="out of memory; set a smaller --micro-batch"))))
    assert '<strong class="flag">collapsed</strong>' in page
    assert "byol: features collapsed in training" in page
    assert re.search("<code>demo-acl/moco-tiny-s0-linear-[0-9a-f]+</code>: out of memory; set a smaller", page)


def test_methods_that_saw_labels_are_marked_in_table_figure_and_words() -> None:
    found = [evaluated("supervised", strength=3.0, encoder_fields={"labels_used": True}), evaluated("simclr", noise=1)]
    run = read(results(*found))
    page = render(run)
    assert page.count('<strong class="flag">labels</strong>') == 2  # its row, and the sentence that explains it
    assert ", labels</text>" in forest(run).drawings[0].panels.narrow[0].replace("\n", "")
    assert "supervised, which saw labels while it was pretrained, has the highest AUC" in findings(run)[0]
    assert any(
        "Methods marked (labels) saw the labels of training volumes in pretraining." in one for one in doubts(run)
    )
    assert 'flag">labels' not in render(read(results(evaluated("simclr"))))


def test_unknown_patients_are_reported() -> None:
    run = read(results(evaluated(data={"patients_known": False})))
    assert any("Patients are unknown" in text for text in doubts(run))
    assert "<dt>test patients</dt><dd><bdi>unknown</bdi></dd>" in render(run)
    assert not any("Patients are unknown" in text for text in doubts(read(results(evaluated()))))


def test_findings_and_doubts_agree_with_the_tests() -> None:
    strengths = {"byol": 2.5, "simclr": 0.5, "random": 0.5}
    every = [
        evaluated(name, seed, size, noise=i) for i, (name, size) in enumerate(strengths.items()) for seed in range(5)
    ]
    run = read(results(*every))
    assert findings(run)[0].startswith("linear: byol has the highest AUC")
    assert findings(run)[0].endswith("scores better than simclr and random with these settings on these data.")
    (alone,) = findings(read(results(*every[::5])))
    assert alone.endswith("this encoder scores better than the tested encoders of simclr and random.")
    sentences = doubts(run)
    assert sentences[0] == "The volumes are synthetic: nothing follows from these scores for real data."
    assert any("1 of 3 pairs cannot be separated" in text for text in sentences)
    (lacking,) = (text for text in sentences if text.startswith("Controls that the table lacks: "))
    assert "kinetics" in lacking
    assert "random" not in lacking
    assert not any("baseline" in text for text in sentences)


def test_letters_decide_who_cannot_be_separated(made: Path) -> None:
    run = Run.read(made)
    for (_, _, rows), sentence in zip(run.by_table(), findings(run), strict=True):
        first, *others = [row for row in rows if row["score"] is not None]
        tied = [run.name_of_row(row) for row in others if set(row["group"]) & set(first["group"])]
        assert all(name in sentence.partition("cannot be separated from")[2] for name in tied)
    assert not any("one seed" in text for text in doubts(run))


def test_the_mean_over_tasks_of_combined_planes_comes_first_everywhere() -> None:
    run = read(
        results(
            *(
                evaluated(method, 0, 1.5 - k, noise=k, plane=plane, target=target, training=True)
                for k, method in enumerate(("byol", "simclr"))
                for plane in ("axial", "coronal")
                for target in ("acl", "meniscus")
            )
        )
    )
    headline = "mean of acl, meniscus, axial + coronal"
    assert findings(run)[0].startswith(f"{headline}, linear: byol has the highest AUC")
    assert len(findings(run)) == 9
    assert [run.titled(subject) for subject in run.headlines] == [headline]
    assert [cell.text for cell in ranked(run).rows[0]][3:5] == ["mean of acl, meniscus", "axial + coronal"]
    assert run.titled(next(iter(run.by_table()))[0]) == headline
    assert primary_comparison(run).endswith(f"requested first: {headline}, linear. The others are exploratory.")
    assert primary_comparison(run) in render(run)
    assert not any("exploratory" in text for text in doubts(run))
    assert primary_comparison(read(results(evaluated()))) == ""  # there are no others


def test_one_seed_and_what_is_not_exact_are_doubts() -> None:
    found = [
        evaluated("byol", encoder_fields={"exactness": "plain"}),
        evaluated("simclr", noise=1, encoder_fields={"exactness": "not exact", "gradient_error": 0.7}),
    ]
    run = read(results(*found))
    sentences = doubts(run)
    assert any("methods have no rank" in text for text in sentences)
    assert "byol: the gradient was plain, not that of the whole effective batch." in sentences
    assert "simclr: the gradient was not exact, not that of the whole effective batch." in sentences
    assert "not exact (7e-01)" in render(run)


def test_unfinished_seeds_are_not_called_failed_and_failed_ones_are() -> None:
    found = [evaluated("byol", seed, recipe={"folds": 2, "fold": fold}) for seed in (0, 1) for fold in (0, 1)]
    other = evaluated("simclr", 0, noise=1, recipe={"folds": 2, "fold": 0})
    sentences = doubts(read(results(*found[:3], other)))
    partial = [text for text in sentences if "not every seed or fold is complete" in text]
    assert len(partial) == 2
    assert any("byol" in text and text.endswith("the score is the mean of the seeds that are.") for text in partial)
    assert any("simclr" in text and text.endswith("is complete.") for text in partial)
    assert not any("failed" in text for text in sentences)
    sentences = doubts(read(results(evaluated("byol"), failed("byol", 1))))
    assert any("byol (demo, acl, sagittal, linear): some seeds failed" in text for text in sentences)


def test_planned_evaluations_without_a_result_are_reported() -> None:
    planned = failed("simclr").evaluation
    assert "1 planned evaluation has no result yet." in doubts(read(results(evaluated(), pending=[planned])))
    assert not any("planned" in text for text in doubts(read(results(evaluated()))))


def test_the_report_says_why_a_control_is_missing() -> None:
    found = replace(results(evaluated("byol")), lacking={"there are no such weights of tiny": ("kinetics", "byol")})
    (lacking,) = (text for text in doubts(read(found)) if text.startswith("Controls that the table lacks: "))
    assert lacking.startswith("Controls that the table lacks: kinetics (there are no such weights of tiny); ")
    assert "byol" not in lacking

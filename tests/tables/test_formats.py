"""The leaderboard as Markdown, LaTeX, SVG, and in a terminal."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich.console import Console

from ssl3d.results.model import CorpusRecord, PlannedEvaluation
from ssl3d.results.results import Evaluated, Failed
from ssl3d.tables.formats.captions import unfinished
from ssl3d.tables.formats.render import Format, render
from ssl3d.tables.formats.terminal import to_rich
from ssl3d.tables.tables import Tables
from ssl3d.tables.write import markdown
from tests.records import LABELS, evaluated, failed, results


def rendered(form: Format, *found: Evaluated | Failed) -> str:
    made = Tables(results(*found))
    return render(made.leaderboard, made.comparisons, form).replace("&#160;", " ")


def terminal(*found: Evaluated | Failed, width: int = 300) -> str:
    made = Tables(results(*found))
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(to_rich(made.leaderboard, made.comparisons, width))
    return console.export_text()


def three_methods() -> list[Evaluated]:
    strong = [evaluated("byol", strength=1.6, noise=1), evaluated("simclr", strength=1.6, noise=5)]
    return [*strong, evaluated("random", strength=0.0, noise=3)]


@pytest.mark.parametrize("form", ["md", "latex"])
def test_every_form_calls_synthetic_data_synthetic(form: Format) -> None:
    text = rendered(form, *three_methods())
    assert "demo (synthetic data), task acl, plane sagittal, 120 test volumes" in text
    assert "pairs cannot be separated" in text
    assert "A true difference in AUC smaller than about 0." in text
    assert "would probably have been missed" in text
    assert "synthetic" not in rendered(form, evaluated("byol", data={"synthetic": False}))


def test_csv_and_terminal_call_synthetic_data_synthetic() -> None:
    assert rendered("csv", *three_methods()).splitlines()[0].count("synthetic") == 1
    text = terminal(*three_methods(), width=200)
    assert "synthetic" in text
    assert "byol" in text


@pytest.mark.parametrize("form", ["md", "latex", "svg"])
def test_methods_that_saw_labels_are_marked_in_every_form(form: Format) -> None:
    seen = evaluated("supervised", encoder_fields={"labels_used": True})
    text = rendered(form, seen, evaluated("byol", noise=1))
    assert "supervised (labels)" in text
    assert "byol (labels)" not in text
    lines = re.sub(r"<[^>]*>", " ", text) if form == "svg" else text  # a sentence may continue on the next line
    assert "saw the labels of training volumes" in " ".join(lines.split())
    assert "saw the labels" not in rendered(form, *three_methods())
    assert "supervised (labels)" in terminal(seen)


@pytest.mark.parametrize("form", ["md", "latex"])
def test_patients_are_counted_and_where_they_are_unknown_one_sentence_says_so(form: Format) -> None:
    pairs = [f"p{i // 2}" for i in range(len(LABELS))]
    assert "120 test volumes of 60 patients" in rendered(form, evaluated(patients=pairs))
    unknown = rendered(form, evaluated(data={"patients_known": False}))
    assert unknown.count("Patients are unknown in this data set") == 1
    assert "Patients are unknown" not in rendered(form, evaluated())


def test_the_corpus_is_shown_where_it_is_not_the_data_set_itself() -> None:
    own, elsewhere = evaluated("byol"), evaluated("byol", recipe={"data": "knees"})
    assert "| corpus |" not in rendered("md", own).splitlines()[2]
    assert "| corpus |" in rendered("md", elsewhere).splitlines()[2]
    corpus = CorpusRecord(name="demo (synthetic) sagittal", synthetic=True, fingerprint="c0", volumes=5)
    assert "| corpus |" not in rendered("md", evaluated("byol", encoder_fields={"corpus": corpus}))


@pytest.mark.parametrize("form", ["md", "latex"])
def test_each_data_set_task_and_plane_has_a_table(form: Format) -> None:
    knees = evaluated("byol", recipe={"data": "knees"}, data={"fingerprint": "beef"})
    found = [evaluated("byol"), evaluated("byol", target="meniscus", recipe={"plane": None}), knees]
    text = rendered(form, *found)
    tables = text.count("| protocol |") if form == "md" else text.count(r"\begin{table}") - 1  # the price
    assert tables == 3
    assert "knees (synthetic data)" in text


def test_nothing_but_failures_says_so() -> None:
    assert "demo, task acl, plane sagittal, no evaluation is complete." in rendered("md", failed("moco"))
    assert "No evaluation is complete." in rendered("md")


def test_planned_evaluations_without_a_result_are_counted() -> None:
    planned = failed().evaluation
    pending: list[PlannedEvaluation] = [planned]
    assert unfinished(results()) == ""
    assert markdown(Tables(results(evaluated(), pending=pending))).startswith(
        "1 planned evaluation has no result yet.\n\n"
    )
    assert unfinished(results(pending=pending * 2)) == "2 planned evaluations have no result yet."


def test_markdown_shows_no_link_or_picture_from_a_name() -> None:
    text = rendered("md", evaluated("[click](javascript:x) ![y](http://z)"))
    assert "](" not in text.replace("\\](", "")


def test_markdown_and_latex_keep_names_inside_their_cells() -> None:
    odd = evaluated("my_method|x & 50% <b>$")
    for part in rendered("md", odd).split("Price of pretraining"):
        lines = [line for line in part.splitlines() if line.startswith("|")]
        assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1
        assert "<b>" not in "".join(lines)
    latex = rendered("latex", odd)
    assert r"my\_method\textbar{}x \& 50\% \textless{}b\textgreater{}\$" in latex
    for part in latex.split("Price of pretraining"):
        assert len({line.replace(r"\&", "").count("&") for line in part.splitlines() if line.endswith(r"\\")}) == 1


def test_markdown_lists_departures_from_the_papers() -> None:
    departing = evaluated("byol", encoder_fields={"departures": ("AdamW instead of LARS.",)})
    text = rendered("md", departing, evaluated("simclr", noise=2))
    assert text.count("- byol: AdamW instead of LARS.") == 1
    assert "- simclr" not in text


def test_departures_of_backbones_have_lines_of_their_own() -> None:
    own, shared = "AdamW instead of LARS.", ("tiny: Group norm instead of batch norm.", "tiny: Four blocks.")
    text = rendered(
        "md",
        evaluated("byol", encoder_fields={"departures": (own, *shared)}),
        evaluated("simclr", noise=2, encoder_fields={"departures": shared}),
    )
    assert text.count("- byol: AdamW instead of LARS.\n") == 1
    assert text.count("- tiny: Group norm instead of batch norm. Four blocks.") == 1
    assert "- simclr" not in text


def test_the_view_size_is_shown_where_it_differs() -> None:
    small, large = evaluated("byol"), evaluated("simclr", noise=2, recipe={"view_size": (8, 40, 40)})
    assert " view " not in rendered("md", small)
    text = rendered("md", small, large)
    assert "16x112x112" in text
    assert "8x40x40" in text
    assert Tables(results(small, large)).leaderboard["view_size"].tolist() == ["16x112x112", "8x40x40"]


def test_latex_marks_the_best_alone_and_gives_ties_by_letters() -> None:
    latex = rendered("latex", *three_methods())
    rows = [line for line in latex.splitlines() if line.startswith("linear")]
    assert [r"\textbf" in row for row in rows] == [True, False, False]
    assert [row.split(" & ")[4] for row in rows] == ["a", "a", "b"]
    assert "Bold: the best score of each protocol." in latex
    assert r"\toprule" in latex


def test_latex_marks_the_best_of_each_protocol() -> None:
    weaker = [
        evaluated(name, strength=s, noise=i, protocol="knn") for i, (name, s) in enumerate([("a", 0.5), ("b", 1)])
    ]
    rows = [line for line in rendered("latex", *three_methods(), *weaker).splitlines() if r"\textbf" in line]
    assert [row.split(" & ")[0] for row in rows] == ["linear", "knn"]


def test_an_auc_of_zero_is_shown_as_a_number() -> None:
    text = rendered("md", evaluated("byol", strength=-40.0))
    assert "| 0.000 (0.000-" in text
    none = rendered("md", evaluated("byol", labels=np.ones(20, int)))
    assert "| none |" in none

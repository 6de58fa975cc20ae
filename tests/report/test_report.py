"""The report: what it says, what it does in a browser, and what names in the data cannot do to it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl3d.cli import run as command
from ssl3d.protocol import Prediction
from ssl3d.report.cases import cases, disagreements
from ssl3d.report.maps import project
from ssl3d.report.material import Run
from ssl3d.report.page import render, write_report
from ssl3d.report.price import price
from ssl3d.report.roc import GRID, band, roc
from ssl3d.report.table import paired, ranked
from ssl3d.report.training import training
from ssl3d.report.views import views
from ssl3d.report.volumes import Pictures
from ssl3d.report.words import doubts, findings
from ssl3d.results.model import Collapse, CorpusRecord, PlanRecord, Price
from ssl3d.results.predictions import predictions_frame
from ssl3d.results.results import Evaluated, Results
from ssl3d.results.scoring import score
from ssl3d.tables.entry import Part
from ssl3d.tables.tables import Tables
from ssl3d.task import Task
from tests import records
from tests.records import LABELS, evaluated, failed, results
from tests.report.pages import (
    HOSTILE,
    UNTRAINED,
    by_hand,
    chromium,
    hostile_results,
    look,
    pictured_run,
    plain_results,
    write_log,
    write_run,
)

DRIVE = """
const board = document.getElementById("board");
const heads = [...board.tHead.rows[0].cells];
const place = (title) => heads.findIndex((head) => head.textContent.trim() === title);
const column = (title) => [...board.tBodies[0].rows].map((row) => row.cells[place(title)].textContent.trim());
const shown = () => [...board.tBodies[0].rows].filter((row) => !row.hidden)
  .map((row) => [row.cells[place("method")].textContent.trim(), row.cells[place("protocol")].textContent.trim()]);
const out = {buttons: heads.every((head) => head.firstElementChild.tagName === "BUTTON"), overflow:
  document.documentElement.scrollWidth > document.documentElement.clientWidth, width: innerWidth};
const head = heads[place("AUC")];
out.before = head.getAttribute("aria-sort");
for (const way of ["up", "down"]) {
  head.firstElementChild.click();
  out[way] = column("AUC"); out[`${way}_said`] = head.getAttribute("aria-sort");
}
heads[place("method")].firstElementChild.click();
out.by_name = column("method"); out.after = head.getAttribute("aria-sort");
const text = document.getElementById("filter-text"), protocol = document.getElementById("filter-protocol");
text.value = "BYOL"; text.dispatchEvent(new Event("input")); out.text = shown();
text.value = ""; text.dispatchEvent(new Event("input"));
protocol.value = "knn"; protocol.dispatchEvent(new Event("change")); out.protocol = shown();
out.count = document.getElementById("filter-count").textContent;
protocol.value = ""; protocol.dispatchEvent(new Event("change")); out.all = shown().length;
out.loaded = performance.getEntriesByType("resource").map((entry) => entry.name).filter((n) => !n.startsWith("data:"));
out.unnamed = [...document.querySelectorAll("figure")].filter((f) => !f.querySelector("[role=img]")?.ariaLabel).length;
out.figures = document.querySelectorAll("figure svg").length;
out.columns = [...document.querySelectorAll("figure .panels, figure .wide")].filter((p) => p.offsetHeight).map((p) =>
  new Set([...p.children].map((svg) => Math.round(svg.getBoundingClientRect().left))).size);
out.wider = [...document.querySelectorAll("figure svg")]
  .filter((svg) => svg.getBoundingClientRect().right > innerWidth).length;
const explained = (section) => [...section.querySelectorAll(".meanings div")]
  .filter((item) => item.offsetHeight && item.lastElementChild.textContent)
  .map((item) => item.firstElementChild.textContent);
out.meanings = ["ranking", "pairs"].map((id) => document.getElementById(id)).map((section) =>
  [[...section.querySelectorAll("th")].map((head) => head.textContent), explained(section)]);
return out;
"""
ATTACKED = """
const out = {hacked: typeof window.hacked, scripts: document.scripts.length, images: document.images.length,
  handlers: [...document.querySelectorAll("*")].flatMap((e) => [...e.attributes].map((a) => a.name))
    .filter((name) => name.startsWith("on")), text: document.body.textContent};
const evil = document.createElement("script"); evil.textContent = "window.hacked = 2"; document.body.append(evil);
out.injected = typeof window.hacked;
try { await fetch("https://example.org/"); out.fetched = "yes"; } catch { out.fetched = "no"; }
return out;
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run made by hand."""
    return write_run(tmp_path_factory.mktemp("runs") / "made", plain_results())


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on packed volumes, with features."""
    return pictured_run(tmp_path_factory.mktemp("pictured"))


def read(of: Results) -> Run:
    """A run that was never written."""
    return Run(Path("nowhere"), PlanRecord(base={}), of, Tables(of))


@pytest.fixture(scope="module", params=[1280, 390])
def seen(made: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Any, str]:
    """The report of a run made by hand, looked at on a laptop and on a phone."""
    folder = tmp_path_factory.mktemp("browser")
    return look(write_report(made, folder / "report.html"), DRIVE, folder, request.param)


# In a browser


def test_the_page_loads_nothing_and_logs_no_error(seen: tuple[Any, str]) -> None:
    found, log = seen
    assert found["loaded"] == []
    assert not [line for line in log.splitlines() if "CONSOLE" in line]
    assert found["figures"] >= 5
    assert found["unnamed"] == 0


def test_only_tables_and_figures_scroll_sideways_not_the_page(seen: tuple[Any, str]) -> None:
    assert seen[0]["width"] in {1280, 390}
    assert not seen[0]["overflow"]


def test_panels_fill_the_page_and_are_stacked_on_a_phone(seen: tuple[Any, str]) -> None:
    found = seen[0]
    assert found["wider"] == 0
    assert max(found["columns"]) == (1 if found["width"] == 390 else 3)


def test_the_meaning_of_every_column_is_visible(seen: tuple[Any, str]) -> None:
    for titles, explained in seen[0]["meanings"]:
        assert titles == explained


def test_headings_sort_both_ways_and_what_is_missing_comes_last(seen: tuple[Any, str]) -> None:
    found = seen[0]
    assert found["buttons"]  # which a keyboard reaches and presses
    assert (found["before"], found["up_said"], found["down_said"]) == ("none", "ascending", "descending")
    for way, turned in (("up", False), ("down", True)):
        aucs = [text for text in found[way] if text != "failed"]
        assert len(aucs) == 6
        assert found[way][len(aucs) :] == ["failed"]
        values = [float(text.split()[0]) for text in aucs]
        assert values == sorted(values, reverse=turned)
    assert found["by_name"] == sorted(found["by_name"])
    assert found["after"] == "none"


def test_the_ranking_is_filtered_by_text_and_by_protocol(seen: tuple[Any, str]) -> None:
    found = seen[0]
    assert {name for name, _ in found["text"]} == {"byol"}
    assert len(found["text"]) == 2
    assert {protocol for _, protocol in found["protocol"]} == {"knn"}
    assert found["count"] == "3 of 7 rows"
    assert found["all"] == 7


def test_names_from_data_files_stay_text_and_injected_code_does_not_run(tmp_path: Path) -> None:
    page = write_report(write_run(tmp_path / "run", hostile_results()), tmp_path / "report.html")
    found, _ = look(page, ATTACKED, tmp_path)
    assert (found["hacked"], found["injected"], found["fetched"]) == ("undefined", "undefined", "no")
    assert (found["scripts"], found["images"], found["handlers"]) == (2, 0, [])
    for name in HOSTILE[:3]:
        assert name in found["text"]


def test_pictures_of_volumes_are_shown(pictured: Path, tmp_path: Path) -> None:
    page = write_report(pictured, tmp_path / "report.html")
    script = """const pictures = [...document.querySelectorAll("figure image")];
    return {views: pictures.filter((p) => p.closest("#views")).length, cases: pictures.filter((p) =>
      p.closest("#cases")).length, maps: document.querySelectorAll("#maps svg").length,
      inline: pictures.every((p) => p.href.baseVal.startsWith("data:image/png"))};"""
    found, log = look(page, script, tmp_path)
    assert found == {
        "views": 9,
        "cases": 5,
        "maps": 4,
        "inline": True,
    }  # one figure of views, since both methods make the same; two maps, and two signs in their legend
    assert "CONSOLE" not in log


# Without one


def test_the_page_is_whole_and_forbids_the_network(made: Path) -> None:
    page = render(Run.read(made))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "unsafe-inline" not in policy[1].partition("script-src")[2]
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", re.sub(r'xmlns(:\w+)?="[^"]*"', "", page))
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert "SYNTHETIC DATA" in page


def test_hostile_names_are_nowhere_markup(tmp_path: Path) -> None:
    page = render(Run.read(write_run(tmp_path, hostile_results())))
    assert page.count("<script>") == page.count("</script>") == 1
    assert "<img" not in page
    assert "&lt;script&gt;window.hacked" in page


def test_the_same_run_gives_the_same_page_and_moves_no_global_state(made: Path, tmp_path: Path) -> None:
    import matplotlib

    settings_before, state = dict(matplotlib.rcParams), str(np.random.get_state())
    torch_state = torch.random.get_rng_state()
    first, second = (write_report(made, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second
    assert dict(matplotlib.rcParams) == settings_before
    assert str(np.random.get_state()) == state
    assert torch.equal(torch.random.get_rng_state(), torch_state)


def test_what_is_absent_is_reported_in_its_place(pictured: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(pictured, tmp_path / "bare"))
    plan = json.loads((bare / "plan.json").read_text())
    shutil.rmtree(bare / "features")
    (bare / "recipe.toml").unlink()
    for log in bare.glob("encoders/*/log.csv"):
        log.unlink()
    shutil.rmtree(plan["stores"]["mrnet sagittal"])
    page = write_report(bare).read_text()
    for text in (
        "their slices cannot be shown",
        "simclr, byol: packed volumes are not where the run had them",
        "so there is no map",
        "log.csv cannot be read",
        "draws this curve",
        "recipe.toml is not in the run's folder",
    ):
        assert text in page


def test_pictures_are_left_out_where_they_are_not_wanted(pictured: Path) -> None:
    page = render(Run.read(pictured), volumes=False)
    assert "Pictures of volumes were left out" in page
    assert "<image" not in page


def test_methods_that_make_the_same_views_share_a_figure(tmp_path: Path) -> None:
    section = views(run := Run.read(pictured_run(tmp_path, ("simclr", "byol", "dino"))), Pictures(run))
    assert section.notes == []
    assert [drawn.title for drawn in section.drawings] == ["simclr, byol", "dino"]
    assert "4 of 10 views" in section.drawings[1].caption  # two large crops and eight small ones


def test_code_that_a_run_names_by_file_is_not_run(tmp_path: Path) -> None:
    plugin = tmp_path / "evil.py"
    plugin.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\nclass Evil: pass\n")
    folder = pictured_run(tmp_path, (f"{plugin}:Evil", "simclr"))
    page = write_report(folder).read_text()
    assert not (tmp_path / "ran").exists()
    assert "a record names code that no installed package registers" in page
    assert "--allow-code" in page
    assert page.count("<figure>\n<h3><bdi>simclr</bdi></h3>") == 1


def test_a_damaged_store_or_features_are_named_and_the_rest_is_there(tmp_path: Path) -> None:
    broken = pictured_run(tmp_path)
    for path in [*broken.glob("features/*/features.npz"), *broken.glob("stores/**/volumes.bin")]:
        path.write_bytes(b"nothing")
    page = write_report(broken).read_text()
    assert "features.npz was changed or cut short" in page
    assert "where its manifest says" in page
    assert 'id="roc"' in page


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
    assert ", labels</text>" in page.replace("\n", "")
    assert "supervised, which saw labels while it was pretrained, has the highest AUC" in findings(run)[0]
    assert any(
        "Methods marked (labels) saw the labels of training volumes in pretraining." in one for one in doubts(run)
    )
    assert 'flag">labels' not in render(read(results(evaluated("simclr"))))


def test_the_page_names_what_encoders_were_pretrained_on() -> None:
    corpus = CorpusRecord(name="big set", synthetic=False, fingerprint="ab", volumes=77, excluded=3)
    page = render(read(results(evaluated("simclr", encoder_fields={"corpus": corpus}), evaluated("byol", noise=1))))
    assert "big set (77 volumes, 3 left out because they or their patients are tested on)" in page
    assert "<bdi>demo sagittal</bdi>" in page  # the column of the ranking


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
    assert findings(run)[0].endswith("scores higher than simclr and random with these settings on these data.")
    (alone,) = findings(read(results(*every[::5])))
    assert alone.endswith("this encoder scores higher than the tested encoders of simclr and random.")
    sentences = doubts(run)
    assert sentences[0] == "The volumes are synthetic: nothing follows from these scores for real data."
    assert any("1 of 3 pairs cannot be separated" in text for text in sentences)
    assert any(text.startswith("The baseline kinetics is not in the table") for text in sentences)


def test_letters_decide_who_cannot_be_separated(made: Path) -> None:
    run = Run.read(made)
    for (_, _, rows), sentence in zip(run.by_table(), findings(run), strict=True):
        first, *others = [row for row in rows if row["auc"] is not None]
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


def test_figures_of_many_methods_stay_bounded_and_report_what_they_leave_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl3d.report.roc.VALUES", 1)  # fewest resamples
    run = read(results(*(evaluated(f"m{k:02d}", strength=1 + k / 10, noise=k) for k in range(20))))
    (curves,), (prices,), (shown,) = (of.drawings for of in (roc(run), price(run), cases(run, None)))
    assert len(curves.panels.paint) == len(prices.panels.legend) == len(shown.panels.legend) == 12
    for drawn in (curves, prices, shown):
        assert "Shown are 12 of 20 methods" in drawn.caption
    assert re.search(r"and \d+ more", findings(run)[0])


def test_the_pairs_shown_are_those_of_the_first_method_and_of_neighbours() -> None:
    run = read(results(*(evaluated(f"m{k:02d}", strength=1 + k / 10, noise=k) for k in range(20))))
    shown = paired(run)
    assert (len(shown.rows), shown.left_out) == (21, 169)
    titles = [column.title for column in shown.columns]
    pairs = [(row[titles.index("A")].text, row[titles.index("B")].text) for row in shown.rows]
    ranking = [run.name_of_row(row) for row in run.rows]
    assert pairs[:10] == [(ranking[0], other) for other in ranking[1:11]]
    assert pairs[10:] == list(pairwise(ranking[1:13]))


def test_several_planes_have_figures_and_findings_of_their_own() -> None:
    run = read(
        results(
            *(
                evaluated(method, 0, 1.0 + k, noise=k, plane=plane, protocol=protocol)
                for k, method in enumerate(("byol", "simclr"))
                for plane in ("axial", "coronal")
                for protocol in ("linear", "knn")
            )
        )
    )
    assert set(run.names.values()) == {"byol", "simclr"}  # no hash: one method is one name on every plane
    assert [text.partition(": ")[0] for text in findings(run)] == [
        f"{plane}, {protocol}" for plane in ("axial", "coronal") for protocol in ("linear", "knn")
    ]
    page = render(run)
    for plane in ("axial", "coronal"):
        assert page.count(f"<h3><bdi>{plane}</bdi></h3>") == 1  # the forest plot
        assert page.count(f"<h3><bdi>{plane}, linear</bdi></h3>") == 3  # ROC curves, price, and cases


def test_several_data_sets_are_sections_of_their_own() -> None:
    found = [
        evaluated(method, noise=k, recipe={"data": data}, data={"name": data}, plane=None)
        for k, method in enumerate(("byol", "simclr"))
        for data in ("one", "two")
    ]
    page = render(read(results(*found)))
    for data in ("one", "two"):
        assert f"<h3><bdi>{data}</bdi></h3>" in page
        assert f"<h3><bdi>{data}, linear</bdi></h3>" in page


@pytest.mark.parametrize("kind", ["regression", "multilabel", "ordinal"])
def test_every_kind_of_task_has_a_page(kind: str) -> None:
    run = read(results(*(of_kind(kind, method, noise) for noise, method in enumerate(("byol", "simclr")))))
    page = render(run)
    assert "Cases that methods disagree on most" in page
    assert len(cases(run, None).drawings) == 1
    if kind == "regression":
        assert "no row has an AUC" in page
        assert ">MAE</button>" in page
        assert not any("no AUC" in text for text in doubts(run))
        assert "predicted age (years)" in page


def of_kind(kind: str, method: str, noise: int) -> Evaluated:
    """An evaluation of a task of any kind, with simulated predictions."""
    rng = np.random.default_rng(noise)
    if kind == "ordinal":
        return evaluated(method, labels=np.arange(60) % 3, K=3, noise=noise, target=records.task("grade", 3, "ordinal"))
    names: dict[str, Any] = {"name": "age", "kind": kind, "classes": ("a", "b") if kind == "multilabel" else ()}
    task = Task(**names, unit="years" if kind == "regression" else None)
    targets = np.random.default_rng(9).integers(0, 2, (40, 2)) if kind == "multilabel" else np.linspace(20, 80, 40)
    p = rng.random((40, 2)) if kind == "multilabel" else targets[:, None] + rng.standard_normal((40, 1))
    ids = [f"{i:02d}" for i in range(40)]
    made = evaluated(method, noise=noise, target=records.task("age"), K=2)
    made_of = score(Prediction(p, None, {}), targets, task)
    data = made.record.data.model_copy(update={"task": task, "n_test": 40, "n_test_patients": 40})
    record = made.record.model_copy(update={"data": data, "score": made_of, "n_positive": None})
    return replace(made, record=record, predictions=predictions_frame(ids, ids, targets, p, task))


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


def test_a_price_that_is_not_known_is_left_out_and_reported() -> None:
    unknown = {"price": Price(device="cpu")}
    found = [
        evaluated("byol"),
        evaluated("simclr", noise=1, encoder_fields=unknown),
        evaluated("random", noise=2, encoder_recipe=UNTRAINED, encoder_fields=unknown),
    ]
    drawn = price(read(results(*found))).drawings[0]
    assert drawn.caption.endswith("Not known, and left out (pretraining, seconds): simclr.")
    assert set(drawn.panels.legend) == {"byol", "random"}


def test_a_log_that_cannot_be_read_is_named_and_the_others_are_drawn(tmp_path: Path) -> None:
    of = plain_results()
    folder = write_run(tmp_path, of)
    path = write_log(folder, next(iter(of.encoders.values())), "epoch,loss\n1,what\n")
    run = Run.read(folder)
    section = training(run)
    assert [note.partition(" cannot be read")[0] for note in section.notes] == [str(path)]
    assert section.drawings[0].alt.startswith("Training curves of 3 encoders")
    assert "log.csv cannot be read" in render(run, volumes=False)


def test_the_number_of_resamples_in_the_caption_is_the_one_used(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "(1000 resamples" in roc(Run.read(made)).drawings[0].caption
    monkeypatch.setattr("ssl3d.report.roc.VALUES", 300 * len(LABELS))
    assert "(300 resamples" in roc(Run.read(made)).drawings[0].caption


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


def test_the_page_names_what_the_recipe_would_add(tmp_path: Path) -> None:
    folder = write_run(tmp_path, results(evaluated("byol"), evaluated("simclr", 1)))
    (folder / "recipe.toml").write_text('methods = ["byol", "simclr"]\nseeds = [0, 1]\n')
    page = render(Run.read(folder), volumes=False)
    assert "adds what is not in this one: byol on tiny, seed 1, acl of demo sagittal; simclr on tiny, seed 0" in page
    (folder / "recipe.toml").write_text('methods = ["byol"]\n')
    assert "adds what" not in render(Run.read(folder), volumes=False)


# Commands


def test_bench_writes_the_report_and_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.runs import arguments, write_knees

    line = arguments(write_knees(tmp_path / "knees"), tmp_path / "run", "--controls=none")
    assert command(line) == 0
    assert str(tmp_path / "run" / "report.html") in capsys.readouterr().out
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<image") == 9  # three volumes with two views each


def test_report_writes_to_out_and_nowhere_else(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(made.rglob("*"))
    assert command(["report", str(made), "--out", str(tmp_path / "deep" / "page.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "deep" / "page.html")
    assert sorted(made.rglob("*")) == before
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["page.html"]
    assert command(["report", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


# What is drawn


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), levels=st.integers(2, 40), n=st.integers(4, 60))
def test_the_roc_curve_is_the_definition_ties_included(seed: int, levels: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 2)
    scores = rng.integers(0, levels, n) / levels
    p = np.stack([1 - scores, scores], axis=1)[None]
    part = Part(tuple(map(str, range(n))), labels, p, (0.5,))
    curve, low, high = band([part], draws=100)
    np.testing.assert_allclose(curve, by_hand(labels, scores, GRID), atol=1e-9)
    assert (low <= high).all()
    assert (np.diff(curve) >= -1e-12).all()


def test_seeds_and_folds_are_averaged_at_equal_false_positive_rates() -> None:
    rng = np.random.default_rng(0)
    parts = [
        Part(
            tuple(f"{fold}{i}" for i in range(len(LABELS))), LABELS, rng.dirichlet([1, 1], (2, len(LABELS))), (0.5, 0.5)
        )
        for fold in range(2)
    ]
    each = [band([Part(part.cases, LABELS, p[None], (0.5,))], 100)[0] for part in parts for p in part.probabilities]
    np.testing.assert_allclose(band(parts, 100)[0], np.mean(each, axis=0), atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 4, 30])
def test_maps_are_finite_for_any_number_of_volumes_and_always_the_same(n: int) -> None:
    x = np.random.default_rng(1).standard_normal((n, 7)).astype(np.float32)
    found = project(x)
    assert found.shape == (n, 2)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, project(x))


def test_the_cases_shown_are_those_with_the_largest_spread() -> None:
    table = pd.DataFrame({"a": np.linspace(0, 1, 20), "b": 0.5, "label": np.linspace(0.4, 0.6, 20)})
    shown = disagreements(table)
    rest = table.drop(shown.index)
    smallest, largest = ((rows.max(axis=1) - rows.min(axis=1)) for rows in (shown, rest))
    assert smallest.min() >= largest.max()


def test_chromium_is_looked_for_by_its_three_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/x/google-chrome" if name == "google-chrome" else None)
    assert chromium() == "/x/google-chrome"

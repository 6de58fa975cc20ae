"""The report: what it says, what it does in a browser, and what names in the data cannot do to it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl3d.audit.verify_tables import verify_tables
from ssl3d.cli import run as command
from ssl3d.errors import RunError
from ssl3d.report.cases import disagreements
from ssl3d.report.maps import project
from ssl3d.report.material import Run
from ssl3d.report.page import render, write_report
from ssl3d.report.price import price
from ssl3d.report.roc import GRID, band, roc
from ssl3d.report.training import training
from ssl3d.report.volumes import Pictures
from ssl3d.report.words import doubts, findings
from ssl3d.results.records import Collapse, Price
from ssl3d.tables.entry import Part
from ssl3d.tables.write import write_tables
from tests.cells import LABELS, cell, failed
from tests.pages import HOSTILE, by_hand, chromium, hostile_cells, look, plain_cells, write_run
from tests.runs import arguments, small_run, write_knees

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
    return write_run(tmp_path_factory.mktemp("runs") / "made", plain_cells())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as it is run: simclr and the random baseline on small knees."""
    folder = tmp_path_factory.mktemp("runs")
    small_run(write_knees(folder / "knees"), folder / "small", methods=("simclr",))
    return folder / "small"


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


def test_headings_sort_both_ways_and_what_is_missing_comes_last(seen: tuple[Any, str]) -> None:
    found = seen[0]
    assert found["buttons"]  # which a keyboard reaches and presses
    assert (found["before"], found["up_said"], found["down_said"]) == ("none", "ascending", "descending")
    for way, turned in (("up", False), ("down", True)):
        aucs = [text for text in found[way] if text != "failed"]
        assert len(aucs) == 6
        assert found[way][len(aucs) :] == ["failed"] * 2
        values = [float(text.split()[0]) for text in aucs]
        assert values == sorted(values, reverse=turned)
    assert found["by_name"] == sorted(found["by_name"])
    assert found["after"] == "none"


def test_the_ranking_is_filtered_by_text_and_by_protocol(seen: tuple[Any, str]) -> None:
    found = seen[0]
    assert {name for name, _ in found["text"]} == {"byol"}
    assert len(found["text"]) == 2
    assert {protocol for _, protocol in found["protocol"]} == {"knn"}
    assert found["count"] == "4 of 8 rows"
    assert found["all"] == 8


def test_names_from_data_files_stay_text_and_injected_code_does_not_run(tmp_path: Path) -> None:
    page = write_report(write_run(tmp_path / "run", hostile_cells()), tmp_path / "report.html")
    found, _ = look(page, ATTACKED, tmp_path)
    assert (found["hacked"], found["injected"], found["fetched"]) == ("undefined", "undefined", "no")
    assert (found["scripts"], found["images"], found["handlers"]) == (2, 0, [])
    for name in HOSTILE[:3]:
        assert name in found["text"]


def test_pictures_of_a_real_run_are_shown(small: Path, tmp_path: Path) -> None:
    page = write_report(small, tmp_path / "report.html")
    script = """const pictures = [...document.querySelectorAll("figure image")];
    return {views: pictures.filter((p) => p.closest("#views")).length, cases: pictures.filter((p) =>
      p.closest("#cases")).length, maps: document.querySelectorAll("#maps svg").length,
      inline: pictures.every((p) => p.href.baseVal.startsWith("data:image/png"))};"""
    found, log = look(page, script, tmp_path)
    assert found == {"views": 27, "cases": 15, "maps": 1, "inline": True}
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
    page = render(Run.read(write_run(tmp_path, hostile_cells())))
    assert page.count("<script>") == page.count("</script>") == 1
    assert "<img" not in page
    assert "&lt;script&gt;window.hacked" in page


def test_the_same_run_gives_the_same_page_and_moves_no_global_state(made: Path, tmp_path: Path) -> None:
    import matplotlib

    settings_before, state = dict(matplotlib.rcParams), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    torch_state = torch.random.get_rng_state()
    first, second = (write_report(made, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second
    assert dict(matplotlib.rcParams) == settings_before
    assert np.random.get_state()[1].tolist() == state  # type: ignore[union-attr]
    assert torch.equal(torch.random.get_rng_state(), torch_state)


def test_what_is_absent_is_said_in_its_place(small: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(small, tmp_path / "bare"))
    shutil.rmtree(bare / "store")
    shutil.rmtree(bare / "features")
    (bare / "recipe.toml").unlink()
    for log in bare.glob("cells/*/log.csv"):
        log.unlink()
    page = write_report(bare).read_text()
    for said in (
        "the slices cannot be shown",
        "simclr sagittal: its packed volumes are not in the run&#39;s folder",
        "are not in the run&#39;s folder any more",
        "No cell has left a log of its pretraining",
        "draws this curve",
        "recipe.toml is not in the run's folder",
    ):
        assert said in page
    assert "Pictures of volumes were left out" in render(Run.read(small), volumes=False)
    assert "<image" not in render(Run.read(small), volumes=False)


def test_volumes_packed_outside_the_run_are_found_where_the_plan_notes_them(tmp_path: Path) -> None:
    root = write_knees(tmp_path / "knees")
    small_run(root, tmp_path / "run", ("random",), baselines=False, store=tmp_path / "packed")
    assert not (tmp_path / "run" / "store").exists()
    cell_result = Run.read(tmp_path / "run").results[0][0]
    store = Pictures(tmp_path / "run").of(cell_result)
    assert store is not None
    assert store.fingerprint == cell_result.data.fingerprint


def test_a_damaged_store_or_features_are_named_and_the_rest_is_there(small: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(small, tmp_path / "broken"))
    for path in [*broken.glob("features/*.npz"), *broken.glob("store/**/volumes.bin")]:
        path.write_bytes(b"nothing")
    page = write_report(broken).read_text()
    assert "cannot be read" in page
    assert "where its manifest says" in page
    assert 'id="roc"' in page


def test_failed_and_collapsed_cells_are_marked(tmp_path: Path) -> None:
    fallen = cell("byol", collapse=Collapse(feature_std=0.0, rankme=1.0, collapsed=True))
    page = render(Run.read(write_run(tmp_path, [fallen, *plain_cells()[2:]])))
    assert '<strong class="flag">collapsed</strong>' in page
    assert "byol: its features collapsed in training" in page
    assert "<code>cell-5</code>: out of memory; set a smaller --micro-batch" in page


def test_findings_and_doubts_agree_with_the_tests(made: Path) -> None:
    run = Run.read(made)
    assert findings(run)[0].startswith("linear: byol has the highest AUC")
    assert findings(run)[0].endswith("and is better than simclr and random.")
    sentences = doubts(run)
    assert sentences[0] == "The volumes are synthetic: nothing follows from these scores for real data."
    assert any(text.startswith("linear: 1 of 3 pairs cannot be separated") for text in sentences)
    assert any(text.startswith("The baseline kinetics is not in the table") for text in sentences)
    assert not any("one seed" in text for text in sentences)


def test_several_tasks_and_planes_have_figures_and_findings_of_their_own(tmp_path: Path) -> None:
    cells = [
        cell(method, 0, 1.0 + k, noise=k, recipe={"data": place}, data=place)
        for k, method in enumerate(("byol", "simclr"))
        for place in ({"task": "acl", "plane": "axial"}, {"task": "acl", "plane": "coronal"})
    ]
    run = Run.read(write_run(tmp_path, cells))
    assert set(run.names.values()) == {"byol", "simclr"}  # no hash: one method is one name on every plane
    assert [text.partition(": ")[0] for text in findings(run)] == [
        f"acl, {plane}, {protocol}" for plane in ("axial", "coronal") for protocol in ("linear", "knn")
    ]
    page = render(run)
    for plane in ("axial", "coronal"):
        assert page.count(f"<h3><bdi>acl, {plane}</bdi></h3>") == 1  # the forest plot
        assert page.count(f"<h3><bdi>acl, {plane}, linear</bdi></h3>") == 3  # ROC curves, price, and cases


def test_one_seed_and_what_is_not_exact_are_doubts(tmp_path: Path) -> None:
    cells = [cell("byol", exactness="plain"), cell("simclr", noise=1, exactness="exact but for backbone batch norm")]
    sentences = doubts(Run.read(write_run(tmp_path, cells)))
    assert "Each method ran with one seed: how far another seed would move its score is not known." in sentences
    assert "byol: its gradient was plain, not that of the whole effective batch." in sentences
    assert any("exact but for backbone batch norm" in text for text in sentences)


def test_a_price_that_is_not_known_is_left_out_and_told(tmp_path: Path) -> None:
    free = cell("random", noise=2, exactness="not trained", price=Price(device="cpu"))
    unknown = cell("simclr", noise=1, price=Price(device="cpu"))
    run = Run.read(write_run(tmp_path, [cell("byol"), unknown, free]))
    drawn = price(run).drawings[0]
    assert drawn.caption.endswith("Not known, and left out (pretraining, seconds): simclr.")
    assert {text.get_text() for legend in drawn.figure.legends for text in legend.get_texts()} == {"byol", "random"}


def test_a_log_that_cannot_be_read_is_named_and_the_others_are_drawn(tmp_path: Path) -> None:
    folder = write_run(tmp_path, plain_cells())
    (folder / "cells/cell-0/log.csv").write_text("epoch,loss\n1,what\n")
    run = Run.read(folder)
    section = training(run)
    assert [note.partition(" cannot be read")[0] for note in section.notes] == [str(folder / "cells/cell-0/log.csv")]
    assert section.drawings[0].alt.startswith("Training curves of 5 pretraining runs")
    assert "cell-0/log.csv cannot be read" in render(run, volumes=False)


def test_the_number_of_resamples_that_is_told_is_the_one_used(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "(1000 resamples" in roc(Run.read(made)).drawings[0].caption
    monkeypatch.setattr("ssl3d.report.roc.VALUES", 300 * len(LABELS))
    assert "(300 resamples" in roc(Run.read(made)).drawings[0].caption


def test_unfinished_seeds_are_not_called_failed_and_failed_ones_are(tmp_path: Path) -> None:
    found = [cell("byol", seed, recipe={"data": {"folds": 2, "fold": fold}}) for seed in (0, 1) for fold in (0, 1)]
    other = cell("simclr", 0, noise=1, recipe={"data": {"folds": 2, "fold": 0}})
    sentences = doubts(Run.read(write_run(tmp_path / "folds", [*found[:3], other])))
    partial = [text for text in sentences if "not every seed or fold is finished" in text]
    assert len(partial) == 4  # linear and knn
    assert any("byol" in text and text.endswith("its score is the mean of the seeds that are.") for text in partial)
    assert any("simclr" in text and text.endswith("is finished.") for text in partial)
    assert not any("failed" in text for text in sentences)
    whole = [cell("byol"), failed("byol", 1)]
    sentences = doubts(Run.read(write_run(tmp_path / "whole", whole)))
    assert any("byol (acl, sagittal, linear): some of its seeds failed" in text for text in sentences)


def test_planned_cells_without_a_result_are_said(tmp_path: Path) -> None:
    folder = write_run(tmp_path, [cell("byol")])
    plan = {"base": {}, "cells": {f"cell-{i}": {} for i in range(3)}}
    (folder / "plan.json").write_text(json.dumps(plan))
    run = Run.read(folder)
    assert "2 planned cells have no result yet." in doubts(run)
    write_tables(folder, run.results)
    assert (folder / "leaderboard.md").read_text().startswith("2 planned cells have no result yet.\n\n")
    assert not [verdict for verdict in verify_tables(folder, sound=True) if verdict.faults]
    plan["cells"] = {"cell-0": {}}
    (folder / "plan.json").write_text(json.dumps(plan))
    assert not any("planned" in text for text in doubts(run))


# Commands


def test_bench_writes_the_report_and_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = arguments(write_knees(tmp_path / "knees"), tmp_path / "run", "--no-baselines")
    assert command(line) == 0
    assert f"Report: {tmp_path / 'run' / 'report.html'}" in capsys.readouterr().out
    assert "<svg" in (tmp_path / "run" / "report.html").read_text()


def test_a_report_that_cannot_be_made_is_a_note_and_never_fails_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run: Path) -> Path:
        raise RunError(f"{run} has no room")

    monkeypatch.setattr("ssl3d.report.page.write_report", refuse)
    assert command(arguments(write_knees(tmp_path / "knees"), tmp_path / "run", "--no-baselines")) == 0
    assert f"Report: not written: {tmp_path / 'run'} has no room" in capsys.readouterr().out


def test_report_writes_where_it_is_told_and_nowhere_else(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    import pandas as pd

    table = pd.DataFrame({"a": np.linspace(0, 1, 20), "b": 0.5, "label": np.linspace(0.4, 0.6, 20)})
    shown = disagreements(table)
    rest = table.drop(shown.index)
    spread = lambda rows: rows.max(axis=1) - rows.min(axis=1)  # noqa: E731
    assert spread(shown).min() >= spread(rest).max()


def test_chromium_is_looked_for_by_its_three_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/x/google-chrome" if name == "google-chrome" else None)
    assert chromium() == "/x/google-chrome"

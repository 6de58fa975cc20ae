"""The report in a browser: it loads nothing, fits any width, sorts and filters, and runs no code from the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ssl3d.report.page import write_report
from tests.report.pages import HOSTILE, look

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


@pytest.fixture(scope="module", params=[1280, 390])
def seen(page: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Any, str]:
    """The report of a run made by hand, looked at on a laptop and on a phone."""
    return look(page, DRIVE, tmp_path_factory.mktemp("browser"), request.param)


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


def test_names_from_data_files_stay_text_and_injected_code_does_not_run(hostile_page: Path, tmp_path: Path) -> None:
    found, _ = look(hostile_page, ATTACKED, tmp_path)
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

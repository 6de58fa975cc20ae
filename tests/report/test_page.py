"""The page as a file: complete, escaped, the same again; and the commands that write it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl3d.cli import run as command
from ssl3d.report.figures import sections
from ssl3d.report.material import Run
from ssl3d.report.page import render, write_report
from ssl3d.results.model import CorpusRecord
from tests.records import evaluated, results
from tests.report.pages import pictured_run, read, write_run


def noted(folder: Path, volumes: bool = True) -> str:
    """What the sections of a run's report say about figures that they lack; no figure is drawn."""
    return "\n".join(note for section in sections(Run.read(folder), volumes) for note in section.notes)


def test_the_page_is_whole_and_forbids_the_network(page: Path) -> None:
    text = page.read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "unsafe-inline" not in policy[1].partition("script-src")[2]
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", re.sub(r'xmlns(:\w+)?="[^"]*"', "", text))
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert "SYNTHETIC DATA" in text


def test_hostile_names_are_nowhere_markup(hostile_page: Path) -> None:
    page = hostile_page.read_text()
    assert page.count("<script>") == page.count("</script>") == 1
    assert "<img" not in page
    assert "&lt;script&gt;window.hacked" in page


def test_the_same_run_gives_the_same_page_and_moves_no_global_state(made: Path, page: Path, tmp_path: Path) -> None:
    import matplotlib

    settings_before, state = dict(matplotlib.rcParams), str(np.random.get_state())
    torch_state = torch.random.get_rng_state()
    assert write_report(made, tmp_path / "again.html").read_bytes() == page.read_bytes()
    assert dict(matplotlib.rcParams) == settings_before
    assert str(np.random.get_state()) == state
    assert torch.equal(torch.random.get_rng_state(), torch_state)


@pytest.mark.usefixtures("undrawn")
def test_what_is_absent_is_reported_in_its_place(pictured: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(pictured, tmp_path / "bare"))
    plan = json.loads((bare / "plan.json").read_text())
    shutil.rmtree(bare / "features")
    (bare / "recipe.toml").unlink()
    for log in bare.glob("encoders/*/log.csv"):
        log.unlink()
    shutil.rmtree(plan["stores"]["mrnet sagittal"])
    notes = noted(bare)
    for text in (
        "their slices cannot be shown",
        "simclr, byol: packed volumes are not where the run had them",
        "so there is no map",
        "log.csv cannot be read",
        "draws this curve",
    ):
        assert text in notes
    assert "recipe.toml is not in the run's folder" in render(Run.read(bare), volumes=False)


def test_pictures_are_left_out_where_they_are_not_wanted(pictured: Path) -> None:
    made = list(sections(Run.read(pictured), volumes=False))
    assert any("Pictures of volumes were left out" in note for section in made for note in section.notes)
    (cases,) = (section for section in made if section.key == "cases")
    assert not any("<image" in panel for drawn in cases.drawings for panel in drawn.panels.narrow)


def test_code_that_a_run_names_by_file_is_not_run(tmp_path: Path) -> None:
    plugin = tmp_path / "evil.py"
    plugin.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\nclass Evil: pass\n")
    folder = pictured_run(tmp_path, (f"{plugin}:Evil", "simclr"))
    made = list(sections(Run.read(folder)))
    notes = [note for section in made for note in section.notes]
    assert not (tmp_path / "ran").exists()
    assert any("a record names code that no installed package registers" in note for note in notes)
    assert any("--allow-code" in note for note in notes)
    assert [drawn.title for section in made if section.key == "views" for drawn in section.drawings] == ["simclr"]


def test_a_damaged_store_or_features_are_named_and_the_rest_is_there(tmp_path: Path) -> None:
    broken = pictured_run(tmp_path)
    for path in [*broken.glob("features/*/features.npz"), *broken.glob("stores/**/volumes.bin")]:
        path.write_bytes(b"nothing")
    notes = noted(broken)
    assert "features.npz was changed or cut short" in notes
    assert "where its manifest says" in notes


@pytest.mark.usefixtures("undrawn")
def test_the_page_names_what_encoders_were_pretrained_on() -> None:
    corpus = CorpusRecord(name="big set", synthetic=False, fingerprint="ab", volumes=77, excluded=3)
    page = render(read(results(evaluated("simclr", encoder_fields={"corpus": corpus}), evaluated("byol", noise=1))))
    assert "big set (77 volumes, 3 left out because they or their patients are tested on)" in page
    assert "<bdi>demo sagittal</bdi>" in page  # the column of the ranking


@pytest.mark.usefixtures("undrawn")
def test_the_page_names_what_the_recipe_would_add(tmp_path: Path) -> None:
    folder = write_run(tmp_path, results(evaluated("byol"), evaluated("simclr", 1)))
    (folder / "recipe.toml").write_text('methods = ["byol", "simclr"]\nseeds = [0, 1]\n')
    page = render(Run.read(folder), volumes=False)
    assert "adds what is not in this one: byol on tiny, seed 1, acl of demo sagittal; simclr on tiny, seed 0" in page
    (folder / "recipe.toml").write_text('methods = ["byol"]\nseeds = [0]\n')
    assert "adds what" not in render(Run.read(folder), volumes=False)


def test_bench_writes_the_report_and_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.runs import arguments, write_knees

    line = arguments(write_knees(tmp_path / "knees"), tmp_path / "run", "--report", controls="none")
    assert command(line) == 0
    assert str(tmp_path / "run" / "report.html") in capsys.readouterr().out
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<image") == 9  # three volumes with two views each


@pytest.mark.usefixtures("undrawn")
def test_report_writes_to_out_and_nowhere_else(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(made.rglob("*"))
    assert command(["report", str(made), "--out", str(tmp_path / "deep" / "page.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "deep" / "page.html")
    assert sorted(made.rglob("*")) == before
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["page.html"]
    assert command(["report", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err

"""Figures as files: PNG and SVG, where they are asked for, whatever the names in them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image

from ssl3d.cli import run as command
from ssl3d.report.figures import write_figures
from ssl3d.report.style import COLOURS, MARKERS, looks, plain
from tests.report.pages import HOSTILE, hostile_results, plain_results, write_run

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "made", plain_results())


def test_plot_writes_each_figure_as_png_and_svg(made: Path, tmp_path: Path, capsys: Capture) -> None:
    before = sorted(made.rglob("*"))
    assert command(["plot", str(made), "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert sorted(printed.out.split()) == sorted(map(str, tmp_path.iterdir()))
    stems = [{path.stem for path in tmp_path.glob(f"*.{form}")} for form in ("png", "svg")]
    assert stems[0] == stems[1]
    for kind in ("forest", "roc", "price", "training", "cases"):
        assert any(stem.startswith(kind) for stem in stems[0])
    assert "Maps of the embeddings: " in printed.err  # what could not be drawn
    assert sorted(made.rglob("*")) == before


def test_pngs_have_300_dots_per_inch_and_svgs_text_without_a_date(made: Path, tmp_path: Path) -> None:
    files, _ = write_figures(made, tmp_path)
    for path in files:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert round(image.info["dpi"][0]) == 300
        else:
            root = ElementTree.parse(path).getroot()  # noqa: S314  # our own file
            assert root.tag.endswith("svg")
            assert not [element.tag for element in root.iter() if element.tag.endswith("}date")]
            assert path.read_text().count("'DejaVu Sans'") == 0  # which few readers have: the reader's own fonts
            if path.name.startswith("forest"):
                assert "byol" in "".join(root.itertext())


def test_figures_made_again_are_the_same_to_the_byte(made: Path, tmp_path: Path) -> None:
    first, _ = write_figures(made, tmp_path / "a", ("svg",))
    second, _ = write_figures(made, tmp_path / "b", ("svg",))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_hostile_names_neither_break_an_svg_nor_leave_the_folder(tmp_path: Path) -> None:
    files, _ = write_figures(write_run(tmp_path / "run", hostile_results()), tmp_path / "figures", ("svg",))
    assert len(files) == 5
    for path in files:
        assert path.parent == tmp_path / "figures"
        assert path.name.replace("-", "").replace(".", "").isalnum()
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(path).iter()}  # noqa: S314  # our own
        assert "script" not in tags
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures", "run"]


def test_one_format_only_and_a_wrong_one_is_refused(made: Path, tmp_path: Path, capsys: Capture) -> None:
    assert command(["plot", str(made), "--out", str(tmp_path / "svg"), "--format", "svg"]) == 0
    assert {path.suffix for path in (tmp_path / "svg").iterdir()} == {".svg"}
    capsys.readouterr()
    assert command(["plot", str(made), "--format", "svg,gif"]) == 2
    assert "'gif' is not a format" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert command(["plot", str(made), "--out", str(tmp_path / "file"), "--format", "svg"]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_figures_go_into_the_run_by_default(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", plain_results())
    files, _ = write_figures(run, formats=("svg",))
    assert {path.parent for path in files} == {run / "figures"}


def test_no_two_of_56_methods_look_alike_even_without_colour_among_the_first_eight() -> None:
    found = looks([f"method {i}" for i in range(len(COLOURS) * len(MARKERS))])
    assert len({(look.colour, look.marker) for look in found.values()}) == len(found) == 56
    assert len({look.marker for look in list(found.values())[:8]}) == 8


def test_texts_in_figures_hold_no_control_or_direction_marks() -> None:
    shown = plain(HOSTILE[3] + "\x00\x1b")
    assert not {"\N{RIGHT-TO-LEFT OVERRIDE}", "\x00", "\x1b"} & set(shown)
    assert len(plain("x" * 500)) <= 34

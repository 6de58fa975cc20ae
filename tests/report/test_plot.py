"""Figures as files: PNG and SVG, where they are asked for, whatever the names in them."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from PIL import Image

from ssl3d.cli import run as command
from ssl3d.report.figures import write_figures
from ssl3d.report.forest import forest
from ssl3d.report.style import COLOURS, MARKERS, looks, plain
from tests.records import evaluated, results
from tests.report.pages import HOSTILE, write_run

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two methods."""
    found = [evaluated(method, noise=noise) for noise, method in enumerate(("byol", "simclr"))]
    return write_run(tmp_path_factory.mktemp("runs") / "small", results(*found))


@pytest.fixture(scope="module")
def plotted(small: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The folder of this run's figures, and what `ssl3d plot` printed to the output and to the error stream."""
    folder, before = tmp_path_factory.mktemp("figures"), sorted(small.rglob("*"))
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        assert command(["plot", str(small), "--out", str(folder)]) == 0
    assert sorted(small.rglob("*")) == before
    return folder, out.getvalue(), err.getvalue()


@pytest.fixture
def one_section(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw a single figure."""
    monkeypatch.setattr("ssl3d.report.figures.sections", lambda run, _volumes: [forest(run)])


def test_plot_writes_each_figure_as_png_and_svg(plotted: tuple[Path, str, str]) -> None:
    folder, out, err = plotted
    assert sorted(out.split()) == sorted(map(str, folder.iterdir()))
    stems = [{path.stem for path in folder.glob(f"*.{form}")} for form in ("png", "svg")]
    assert stems[0] == stems[1]
    for kind in ("forest", "roc", "price", "training", "cases"):
        assert any(stem.startswith(kind) for stem in stems[0])
    assert "Maps of the embeddings: " in err  # what could not be drawn


def test_pngs_have_300_dots_per_inch_and_svgs_text_without_a_date(plotted: tuple[Path, str, str]) -> None:
    for path in plotted[0].iterdir():
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


def test_figures_made_again_are_the_same_to_the_byte(
    small: Path, plotted: tuple[Path, str, str], tmp_path: Path
) -> None:
    again, _ = write_figures(small, tmp_path, ("svg",))
    assert [path.read_bytes() for path in again] == [(plotted[0] / path.name).read_bytes() for path in again]


def test_hostile_names_neither_break_an_svg_nor_leave_the_folder(hostile: Path, tmp_path: Path) -> None:
    files, _ = write_figures(hostile, tmp_path / "figures", ("svg",))
    assert len(files) == 5
    for path in files:
        assert path.parent == tmp_path / "figures"
        assert path.name.replace("-", "").replace(".", "").isalnum()
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(path).iter()}  # noqa: S314  # our own
        assert "script" not in tags
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures"]


@pytest.mark.usefixtures("one_section")
def test_one_format_only_and_a_wrong_one_is_refused(small: Path, tmp_path: Path, capsys: Capture) -> None:
    assert command(["plot", str(small), "--out", str(tmp_path / "svg"), "--format", "svg"]) == 0
    assert {path.suffix for path in (tmp_path / "svg").iterdir()} == {".svg"}
    capsys.readouterr()
    assert command(["plot", str(small), "--format", "svg,gif"]) == 2
    assert "'gif' is not a format" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert command(["plot", str(small), "--out", str(tmp_path / "file"), "--format", "svg"]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.usefixtures("one_section")
def test_figures_go_into_the_run_by_default(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", results(evaluated("byol")))
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

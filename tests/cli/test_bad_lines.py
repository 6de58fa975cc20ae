"""Every bad command line and recipe file ends in one sentence and exit code 2, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl3d.cli import run
from tests.cli.bad_lines import FILES, FOLDERS, LINES, BadLine

LONGEST_MESSAGE = 1_200  # characters, of which names of folders and known plugins are a part


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the lines name."""
    folder = tmp_path_factory.mktemp("bad")
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("line", LINES, ids=[line.name[:60] for line in LINES])
def test_a_bad_line_is_one_sentence(
    line: BadLine, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    assert run([argument.replace("{}", str(place)) for argument in line.arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert said.err.startswith("Error: ")
    assert said.err.count("\n") == 1
    assert line.says.replace("{}", str(place)) in said.err
    assert len(said.err) < LONGEST_MESSAGE
    assert sorted(place.rglob("*")) == before


def test_there_are_many_lines_and_all_differ() -> None:
    names = [line.name for line in LINES]
    assert len(set(names)) == len(names) >= 180

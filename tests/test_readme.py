"""What the README shows is what the code prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ssl3d.cli import cli, run

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def block(mark: str) -> str:
    found = re.search(rf"<!-- {mark} -->\n```\w*\n(.*?)```", README, re.DOTALL)
    assert found, f"README.md has no block below <!-- {mark} -->"
    return found[1]


def test_list_of_plugins_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list"]) == 0
    printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.strip().splitlines())
    assert block("ssl3d list").strip() == printed


@pytest.mark.parametrize("mark", ["main job", "tests"])
def test_the_two_commands_are_one_line_each_that_sets_everything_up(mark: str) -> None:
    lines = block(mark).strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("python3 -m venv .venv && .venv/bin/pip install ")


SHOWN = re.findall(r"^(?:.* && \.venv/bin/)?(ssl3d [a-z].*)$", README, re.MULTILINE)
COMMANDS = sorted({line.strip() for line in SHOWN})


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shown_has_options_that_exist(command: str) -> None:
    name, *arguments = shlex.split(command)[1:]
    assert len(COMMANDS) >= 5
    found = cli.get_command(cli.make_context("ssl3d", [], resilient_parsing=True), name)
    while found is not None and hasattr(found, "commands"):
        found = found.commands[arguments.pop(0)]
    assert found is not None
    found.make_context(name, arguments)  # raises where an option or its value does not exist


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *map(str, ROOT.glob("benchmarks/results/*/README.md"))]
)
def test_links_and_pictures_lead_to_files(page: str) -> None:
    path = ROOT / page
    for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8")):
        assert (path.parent / link).exists(), link

"""Help: every command has some, quickly, and a faulty line shows how to write it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ssl3d.cli import COMMANDS, run

Capture = pytest.CaptureFixture[str]


def test_every_command_has_help(capsys: Capture) -> None:
    assert run(["--help"]) == 0
    top = capsys.readouterr().out
    for command, (_, line) in COMMANDS.items():
        assert command in top
        assert line in top
        assert run([command, "--help"]) == 0
        assert "Usage: ssl3d" in capsys.readouterr().out
    for command in ("check", "pack", "demo"):
        assert run(["data", command, "--help"]) == 0


def test_help_and_lists_load_neither_torch_nor_pandas() -> None:
    lines = [["--help"], *([command, "--help"] for command in COMMANDS), ["list"], ["bench", "--set", "lrr=1"]]
    code = (
        "import sys, contextlib, io\nfrom ssl3d.cli import run\n"
        f"with contextlib.redirect_stdout(io.StringIO()):\n    [run(line) for line in {lines!r}]\n"
        "print([name for name in ('torch', 'pandas', 'sklearn', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr.startswith("Error: unknown field 'lrr'")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["bnech"], "No such command 'bnech'; did you mean 'bench'?"),
        (["bench", "--epochs", "abc"], "'abc' is not a valid integer"),
        (["bench", "--seeds", "1,x"], "'1,x' is not a list of whole numbers"),
        (["bench", "--methods", ","], "needs at least one name"),
        (["bench", "--epoch", "3"], "No such option"),
        (["leaderboard"], "Missing argument 'RUN'"),
        (["leaderboard", "run", "--format", "xls"], "'xls' is not one of"),
        (["compare"], "Missing argument"),
    ],
)
def test_a_faulty_command_line_shows_the_usage(capsys: Capture, line: list[str], message: str) -> None:
    assert run(line) == 2
    assert message in capsys.readouterr().err


def test_no_command_at_all_prints_the_help(capsys: Capture) -> None:
    assert run([]) == 0
    out = capsys.readouterr().out
    assert run(["--help"]) == 0
    assert capsys.readouterr().out == out


def test_options_of_bench_stand_in_groups(capsys: Capture) -> None:
    assert run(["bench", "--help"]) == 0
    out = capsys.readouterr().out
    titles = ["What is compared:", "Data:", "Pretraining:", "Evaluation:", "Any other setting:", "Where and how:"]
    assert [line for line in out.splitlines() if line in titles] == titles
    assert out.index("Data:") < out.index("--corpus") < out.index("Pretraining:") < out.index("--tune")

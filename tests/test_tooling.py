"""The rules that tools hold: style, types, and who may import whom."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ssl3d.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
CHECKS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
    "import-linter": ["lint-imports"],
}


@pytest.mark.parametrize("name", CHECKS)
def test_tool_finds_nothing(name: str) -> None:
    tool, *arguments = CHECKS[name]
    command = [str(Path(sys.executable).parent / tool), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


LIGHT = [
    *("ssl3d", "ssl3d.registry", "ssl3d.card", "ssl3d.task", "ssl3d.recipe", "ssl3d.listing", "ssl3d.experiment"),
    *("ssl3d.results.read", "ssl3d.results.lease", "ssl3d.results.schema", "ssl3d.results.model_card"),
    *("ssl3d.tables.tables", "ssl3d.tables.write", "ssl3d.protocol", "ssl3d.cli", "ssl3d.cli.bench"),
]


@pytest.mark.parametrize("module", LIGHT)
def test_module_loads_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


HELP = [["--help"], ["data", "--help"], ["data", "pack", "--help"], ["list"]]
HELP += [[name, "--help"] for name in COMMANDS]


@pytest.mark.parametrize("arguments", HELP, ids=" ".join)
def test_help_and_lists_load_neither_torch_nor_pandas(arguments: list[str]) -> None:
    code = (
        f"import sys; from ssl3d.cli import run; code = run({arguments!r}); "
        "sys.exit(code or bool({'torch', 'pandas', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_fixed_top_level_is_there() -> None:
    for name in (
        "ssl3d",
        "plugins",
        "benchmarks",
        "tests",
        "pyproject.toml",
        "CONTRIBUTING.md",
        "README.md",
        ".ci/run",
    ):
        assert (ROOT / name).exists(), name


def test_no_file_of_ours_is_too_long_to_be_one_room() -> None:
    files = [*ROOT.glob("ssl3d/**/*.py"), *ROOT.glob("plugins/**/*.py")]
    assert len(files) > 50
    long = {str(file.relative_to(ROOT)): lines for file in files if (lines := len(file.read_text().splitlines())) > 300}
    assert not long


def test_every_command_is_a_file_of_its_own() -> None:
    for name, (target, _) in COMMANDS.items():
        assert target.partition(":")[0] == f"ssl3d.cli.{name}"

"""Commands that read records import no plugin: a run folder from somebody else is data, not code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ssl3d.results.read import read_results
from ssl3d.results.records import sha256
from ssl3d.tables.tables import Tables
from ssl3d.tables.write import write_tables
from tests.records import evaluated, results, write_run

MARKS = "from pathlib import Path\nPath({mark!r}).write_text('imported')\n"
READ = """
import json, sys
from ssl3d.cli import run
codes = [run(arguments) for arguments in json.loads(sys.argv[1])]
own = [name for name in sys.modules if name.startswith(("ssl3d", "acme"))]
print(json.dumps({"codes": codes, "modules": own}), file=sys.stderr)
"""


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that is there once a plugin of the run was imported: by file, or by module."""
    path = tmp_path / "mark.txt"
    for name in ("acme_file", "acme_module"):
        (tmp_path / f"{name}.py").write_text(MARKS.format(mark=str(path)))
    return path


@pytest.fixture
def run(tmp_path: Path, mark: Path) -> Path:
    """A run of two methods; its records name all kinds of plugins by file, by module, or registered."""
    untrained: dict[str, Any] = {"pretrain": None, "corpus": ()}  # whose keys the records made by hand get right
    whole: dict[str, Any] = {"encoder_sha256": sha256(b"no weights")}
    found = []
    for number, place in enumerate(("acme_file.py", "acme_module")):
        encoder = {**untrained, "backbone": f"{place}:Backbone"}
        named: dict[str, Any] = {"protocol": f"{place}:Protocol", "recipe": {"data": f"{place}:Data"}, **whole}
        found += [
            evaluated(f"{place}:Method", seed, 2.0, noise=number, encoder_recipe=encoder, **named) for seed in (0, 1)
        ]
    found += [evaluated("random", seed, 1.0, noise=3, encoder_recipe=untrained, **whole) for seed in (0, 1)]
    folder = write_run(tmp_path / "run", results(*found))
    write_tables(folder, Tables(read_results(folder)))
    return folder


@pytest.mark.slow  # another process
def test_tables_and_checks_of_a_run_import_no_plugin(run: Path, mark: Path, tmp_path: Path) -> None:
    commands = [
        ["leaderboard", str(run)],
        ["compare", str(run), str(run)],
        ["export", str(run), "--to", str(tmp_path / "table.csv")],
        ["verify", str(run)],
    ]
    done = subprocess.run(
        [sys.executable, "-c", READ, json.dumps(commands)],
        cwd=tmp_path,  # where both are found
        capture_output=True,
        text=True,
        check=False,
    )
    said = json.loads(done.stderr.splitlines()[-1])
    assert said["codes"] == [0, 0, 0, 0], done.stdout + done.stderr
    assert "acme_module" in done.stdout
    assert not mark.exists()
    parts = ("ssl3d_file_", "acme_", "ssl3d_plugins.", "ssl3d.data.sets.", "ssl3d.evaluate.protocols.")
    assert [name for name in said["modules"] if name.startswith(parts)] == []


def test_the_mark_appears_where_a_plugin_is_imported(tmp_path: Path, mark: Path) -> None:
    from ssl3d.errors import PluginError
    from ssl3d.registry import load

    with pytest.raises(PluginError, match="no class 'Method'"):
        load("methods", f"{tmp_path / 'acme_file.py'}:Method")
    assert mark.exists()

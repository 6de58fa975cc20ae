"""What importing a plugin leaves behind, seen from a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

SECONDS = 300
ENVIRONMENT = dict(os.environ)  # as it was before a plugin could change it in this process


def side_effects(kind: type) -> list[str]:
    """Return what importing the module of a class does beside defining names: "prints ...", "changes ...".

    Raises:
        AssertionError: it cannot be imported in a fresh process.
    """
    module = sys.modules[kind.__module__]
    by_name = module.__name__ != "__main__" and not module.__name__.startswith("ssl3d_file_")
    file = "" if by_name or module.__file__ is None else str(Path(module.__file__).resolve())
    return list(_side_effects(module.__name__, file))


@cache
def _side_effects(module: str, file: str) -> tuple[str, ...]:
    """Ask a fresh process; by the module's file where it has no importable name. Classes share modules: kept."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "changes.json"
        command = [sys.executable, "-m", "ssl3d.testing.imported", module, file, str(answer), json.dumps(sys.path)]
        done = subprocess.run(  # noqa: S603  # this interpreter, and no shell
            command, capture_output=True, text=True, timeout=SECONDS, check=False, env=ENVIRONMENT
        )
        if not answer.is_file():
            raise AssertionError(f"in a fresh process {module} does not import: {_last_line(done.stderr)}")
        changes: list[str] = json.loads(answer.read_text())
    effects = [f"changes {', '.join(changes)}"] if changes else []
    printed = (done.stdout + done.stderr).strip()
    if printed:
        effects.append(f"prints {printed.splitlines()[0]!r}")
    return tuple(effects)


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else "it ended without a word"

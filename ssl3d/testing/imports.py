"""What importing a plugin leaves behind, seen from a fresh process."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache, cached_property
from pathlib import Path

from ssl3d.registry import KINDS, module_of, plugins, split_variant
from ssl3d.testing.runner import BrokenRuleError

SECONDS = 300
ENVIRONMENT = dict(os.environ)  # as it was before a plugin could change it in this process


class _Import:
    """A fresh process that imports one module, and what that did beside defining names."""

    def __init__(self, module: str, file: str) -> None:
        self._module = module
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._answer = Path(self._folder.name) / "changes.json"
        arguments = [module, file, str(self._answer), json.dumps(sys.path)]
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter, and no shell
            [sys.executable, "-m", "ssl3d.testing.imported", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        atexit.register(self._process.kill)

    @cached_property
    def effects(self) -> list[str]:
        """What the import does, "prints ..." or "changes ...".

        Raises:
            BrokenRuleError: the module cannot be imported in a fresh process, or takes too long.
        """
        try:
            out, errors = self._process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            out, errors = self._process.communicate()
            raise BrokenRuleError(f"importing {self._module} takes more than {SECONDS} s; do less at import") from None
        finally:
            atexit.unregister(self._process.kill)
        if not self._answer.is_file():
            raise BrokenRuleError(f"{self._module} cannot be imported in a fresh process: {_last_line(errors)}")
        changes: list[str] = json.loads(self._answer.read_text())
        self._folder.cleanup()
        effects = [f"changes {', '.join(changes)}"] if changes else []
        printed = (out + errors).strip()
        return [*effects, f"prints {printed.splitlines()[0]!r}"] if printed else effects


def begin(reference: str) -> None:
    """Start to import the module behind a reference in a fresh process, before this one imports anything of it."""
    for kind in KINDS:
        plugin = plugins(kind).get(split_variant(kind, reference)[0])
        if plugin is not None or ":" in reference:
            module, file = module_of(plugin.target if plugin else reference)
            if not file or Path(file).is_file():
                _started(module, file)
            return


def begin_import(kind: type) -> None:
    """Start to import the module of a class in a fresh process, while other rules are applied."""
    _import_of(kind)


def side_effects(kind: type) -> list[str]:
    """Return what importing the module of a class does beside defining names: "prints ...", "changes ...".

    Raises:
        BrokenRuleError: it cannot be imported in a fresh process.
    """
    return _import_of(kind).effects


def _import_of(kind: type) -> _Import:
    module = sys.modules[kind.__module__]
    by_name = module.__name__ != "__main__" and not module.__name__.startswith("ssl3d_file_")
    return _started(module.__name__, "" if by_name or module.__file__ is None else str(Path(module.__file__).resolve()))


@cache
def _started(module: str, file: str) -> _Import:
    """Import by the module's file where it has no importable name. Classes share modules: one process for each."""
    return _Import(module, file)


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else "it ended without a message"

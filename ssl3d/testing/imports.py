"""What importing a plugin leaves behind, seen from a fresh process."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType

from ssl3d.plugin_files.imports import LOOSE
from ssl3d.registry import KINDS, module_of, plugins, split_variant
from ssl3d.testing.runner import BrokenRuleError

SECONDS = 300
# Imported before the first look at the settings, as most plugins of a kind import it; other libraries cost a second
# process.
FIRST, FIRST_OF_PROTOCOLS = ("torch._dynamo",), ("sklearn.linear_model",)
ENVIRONMENT = dict(os.environ)  # as it was before a plugin could change it in this process


class _Import:
    """A fresh process that imports one module, and what that did beside defining names."""

    def __init__(self, module: str, file: str, first: Sequence[str]) -> None:
        self._module = module
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._answer = Path(self._folder.name) / "changes.json"
        given = {"path": sys.path, "first": first, "again": False}
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter, and no shell
            [sys.executable, "-m", "ssl3d.testing.imported", module, file, str(self._answer)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        atexit.register(self._process.kill)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(given))
        self._process.stdin.close()
        self._process.stdin = None  # communicate() need not flush it

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
            self._folder.cleanup()
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
                _start(module, file, FIRST_OF_PROTOCOLS if plugin and kind == "protocols" else FIRST)
            return


def begin_import(kind: type) -> None:
    """Start to import the module of a class in a fresh process, while other rules are applied."""
    module = sys.modules[kind.__module__]
    protocol = any(base.__module__ == "ssl3d.protocol" for base in kind.__mro__)
    _start(*_named(module), FIRST_OF_PROTOCOLS if protocol else FIRST)


def side_effects(kind: type) -> list[str]:
    """Return what importing the module of a class does beside defining names: "prints ...", "changes ...".

    Raises:
        BrokenRuleError: it cannot be imported in a fresh process.
    """
    begin_import(kind)
    return _started[_named(sys.modules[kind.__module__])].effects


_started: dict[tuple[str, str], _Import] = {}  # classes share modules: one process for each


def _start(module: str, file: str, first: Sequence[str]) -> None:
    if (module, file) not in _started:
        _started[module, file] = _Import(module, file, first)


def _named(module: ModuleType) -> tuple[str, str]:
    """The module's name, and its file where the name cannot be imported."""
    by_name = module.__name__ != "__main__" and not module.__name__.startswith(LOOSE)
    return module.__name__, "" if by_name or module.__file__ is None else str(Path(module.__file__).resolve())


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else "it ended without a message"

"""The sources of a plugin: an edit that could change its numbers changes the keys of what it makes. Loads no torch.

Counted are the file of the plugin's class and every module that it imports, directly or not, from its own package (or,
for a loose file, from its own folder). The core is not counted: its numerics version is (:mod:`ssl3d.results.keys`).
Other packages are recorded by their versions.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

from ssl3d.recipe import digest

CORE = "ssl3d"


def sources_hash(kind: type) -> str:
    """Return the hash of a plugin's class name and of the sources behind it."""
    files = sorted(hashlib.sha256(_text(module).encode()).hexdigest() for module in _modules(kind).values())
    return digest([kind.__qualname__, files])


def source_files(kind: type) -> list[Path]:
    """Return the files behind a plugin's class and the plugins that it is derived from; none of the core."""
    return list(_modules(kind))


def _modules(kind: type) -> dict[Path, ModuleType]:
    """Return the modules behind a plugin's class and the plugins that it is derived from, by file."""
    contracts = [base for base in kind.__mro__ if base.__module__.partition(".")[0] == CORE]
    plugins = [base for base in kind.__mro__ if any(issubclass(base, contract) for contract in contracts)]
    found: dict[Path, ModuleType] = {}
    for base in plugins or [kind]:
        module = sys.modules.get(base.__module__)
        if module is not None and _counts(module):
            found |= _closure(module)
    return found


def _closure(start: ModuleType) -> dict[Path, ModuleType]:
    """Return a module and all that it imports from below the same root, by file."""
    root, waiting = _root(start), [start]
    seen: dict[Path, ModuleType] = {}
    while waiting:
        module = waiting.pop()
        path = Path(str(module.__file__)).resolve()
        if path not in seen:
            seen[path] = module
            waiting += [other for other in _imported(module) if _below(other, root)]
    return seen


def _root(module: ModuleType) -> Path:
    """Folder of the top-level package, or of the loose file."""
    path = Path(str(module.__file__)).resolve()
    depth = module.__name__.count(".") + (path.name == "__init__.py")
    return path.parents[depth - 1] if depth else path.parent


def _below(module: ModuleType, root: Path) -> bool:
    inside = root in Path(str(module.__file__)).resolve().parents
    # A single-file plugin in site-packages has all packages below its root: only modules beside it count.
    return inside and (root.name != "site-packages" or Path(str(module.__file__)).resolve().parent == root)


def _imported(module: ModuleType) -> Iterator[ModuleType]:
    """Modules with a source file that a module's import statements name."""
    for name in _names(module):
        found = sys.modules.get(name)
        if found is not None and _counts(found):
            yield found


def _names(module: ModuleType) -> Iterator[str]:
    """Every dotted name that an import statement of a module could stand for."""
    package = module.__package__ or ""
    for node in ast.walk(ast.parse(_text(module))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - (node.level - 1)] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _counts(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return bool(file) and str(file).endswith(".py") and module.__name__.partition(".")[0] != CORE


@cache
def _text(module: ModuleType) -> str:
    """Return the source of a module, as it was when it was first asked for: about what was imported.

    A loose file that was edited is imported again, as another module (:mod:`ssl3d.registry`).
    """
    return Path(str(module.__file__)).read_text("utf-8")

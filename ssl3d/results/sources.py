"""The sources of a plugin: an edit that could change its results changes the keys of its artifacts. Loads no torch.

Included are the file of the plugin's class and every module that it imports, directly or indirectly, from its own
package (or, for a loose file, from its own folder). Files are found by their paths: a module imported in a function
counts before the function runs. The core is not included but has a numerics version (:mod:`ssl3d.results.keys`).
Other packages are recorded by their versions.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType

from ssl3d.plugin_files.imports import CORE, LOOSE, Root, read_source
from ssl3d.recipe import digest

_imported_texts: dict[ModuleType, str] = {}  # text of imported modules, when first read
_unimported_texts: dict[Path, str] = {}  # text of modules not imported yet, when last read


def sources_hash(kind: type) -> str:
    """Return the hash of a plugin's class name and of the sources behind it."""
    texts = _texts(kind).values()
    files = sorted(hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest() for text in texts)
    return digest([kind.__qualname__, files])


def source_files(kind: type) -> list[Path]:
    """Return the files behind a plugin's class and the plugins it derives from, without the core's."""
    return list(_texts(kind))


def keep_imported() -> None:
    """Fix the texts of modules imported since they were hashed, because later edits do not run in this process."""
    for path, text in _unimported_texts.items():
        module = _module_at(path)
        if module is not None:
            _imported_texts.setdefault(module, text)
    _unimported_texts.clear()


def _texts(kind: type) -> dict[Path, str]:
    """Return the sources behind a plugin's class and the plugins it derives from, by file."""
    contracts = [base for base in kind.__mro__ if base.__module__.partition(".")[0] == CORE]
    plugins = [base for base in kind.__mro__ if any(issubclass(base, contract) for contract in contracts)]
    found: dict[Path, str] = {}
    for base in plugins or [kind]:
        module = sys.modules.get(base.__module__)
        if module is not None and _counts(module):
            found |= _closure(module)
    return found


def _closure(module: ModuleType) -> dict[Path, str]:
    """Return the sources, by file, of a module and everything it imports from below the same root."""
    start = Path(str(module.__file__)).resolve()
    return Root.of(module).closure(start, lambda path: _text_of(module) if path == start else _text(path))


def _counts(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return bool(file) and str(file).endswith(".py") and module.__name__.partition(".")[0] != CORE


def _text(path: Path) -> str:
    """Return the text of a file: as imported, or the current text if it is not imported yet."""
    module = _module_at(path)
    if module is not None:
        return _text_of(module)
    _unimported_texts[path] = text = read_source(path)
    return text


def _text_of(module: ModuleType) -> str:
    """Return the source of a module when first requested, approximately as imported.

    A loose file is imported again after an edit, as another module (:mod:`ssl3d.registry`).
    """
    if module not in _imported_texts:
        _imported_texts[module] = read_source(Path(str(module.__file__)))
    return _imported_texts[module]


def _module_at(path: Path) -> ModuleType | None:
    """Return the module imported from a file; None if it was not imported."""
    end = str(Path(*path.parts[-2:])) if path.name == "__init__.py" else path.name  # avoids resolving the others
    for name, module in list(sys.modules.items()):
        # vars, not getattr: some modules import others on attribute access
        file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
        if not file or name.startswith(LOOSE) or not str(file).endswith(end):
            continue
        if Path(str(file)).resolve() == path.resolve():
            return module
    return None

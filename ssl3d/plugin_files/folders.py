"""Imports of a plugin file from its own folder, at any time, without shadowing installed packages.

``--methods my.py:Mine`` may import files beside my.py, at its top or inside a function, from any working directory.
The folder is not added to ``sys.path``, where everything in it would be importable by everyone: only the modules
that my.py and its helpers name in import statements are found, and only if nothing else on the path has their name.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from ssl3d.errors import PluginError
from ssl3d.plugin_files.imports import INSTALLED, Root, imports, places_on_the_path, read_source


class SourceOnly(SourceFileLoader):
    """Loader that ignores bytecode: a cached file can be older than an edit made in the same second."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002  # importlib's signature
        """Return the code of the current source."""
        return self.source_to_code(self.get_data(self.path), self.path)


class _Finder(MetaPathFinder):
    """Finder of top-level modules in the folders of plugin files."""

    def __init__(self) -> None:
        self.folders: dict[str, Path] = {}  # by module name

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002  # importlib's signature
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname not in self.folders:
            return None
        spec = PathFinder.find_spec(fullname, [str(self.folders[fullname])])
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = SourceOnly(fullname, spec.loader.path)
        return spec


_FINDER = _Finder()


def allow_imports(path: Path) -> None:
    """Make the modules that a plugin file or its helpers import from the file's folder importable.

    Raises:
        PluginError: an import would find a module of the same name in another folder, whose edits would go unnoticed.
    """
    for name in _imported_beside(path):
        elsewhere = _other_place(name, path.parent)
        if elsewhere is not None:
            raise PluginError(
                f"{path} imports {name!r} from its folder, but Python has another {name!r}, in {elsewhere}; rename one "
                "of them, or use them in separate commands"
            )
        if name not in sys.stdlib_module_names and not places_on_the_path(name):
            _FINDER.folders[name] = path.parent
    if _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)  # at the end: installed packages are found first


def _imported_beside(path: Path) -> list[str]:
    """Return the top-level modules in a file's folder that the file imports, directly or through one of them."""
    texts = Root(path.parent).closure(path, read_source)
    named = {name[0] for text in texts.values() for level, name in imports(text) if not level}
    beside = {file.relative_to(path.parent).parts[0].removesuffix(".py") for file in texts}
    return sorted(named & beside)


def _other_place(name: str, folder: Path) -> Path | None:
    """Return where a module that lies beside a file would be imported from instead.

    None also for installed and standard library modules: they take precedence, and their versions are recorded.
    """
    if name in _FINDER.folders:
        found = _FINDER.folders[name]
        return None if found == folder else found
    places = places_on_the_path(name)
    if any(folder in place.parents or INSTALLED & set(place.parts) for place in places):
        return None
    return places[0].parent if places else None

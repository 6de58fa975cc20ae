"""The files that Python sources import from a folder, found by reading them as text. Loads no torch."""

from __future__ import annotations

import ast
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

CORE = "ssl3d"
LOOSE = "ssl3d_file_"  # prefix of the module names of plugin files outside packages
INSTALLED = {"site-packages", "dist-packages"}

Name = tuple[str, ...]  # a dotted name, in parts


@dataclass(frozen=True)
class Root:
    """The folder whose files may belong to a plugin.

    Attributes:
        folder: folder of the plugin's top-level package, or of its single file.
        package: name of the top-level package; None if the modules in the folder are themselves top-level.
    """

    folder: Path
    package: str | None = None

    @classmethod
    def of(cls, module: ModuleType) -> Root:
        """Return the root of an imported module."""
        path = Path(str(module.__file__)).resolve()
        depth = module.__name__.count(".") + (path.name == "__init__.py")
        if not depth or module.__name__.startswith(LOOSE):
            return cls(path.parent)
        return cls(path.parents[depth - 1], module.__name__.partition(".")[0])

    def closure(self, start: Path, read: Callable[[Path], str]) -> dict[Path, str]:
        """Return, by file, the sources of a file and all that it imports from this root, directly or indirectly."""
        found = {start: read(start)}
        waiting = [start]
        while waiting:
            path = waiting.pop()
            for file in self._imported(path, found[path]):
                if file not in found:
                    found[file] = read(file)
                    waiting.append(file)
        return found

    def _imported(self, path: Path, source: str) -> Iterator[Path]:
        """Yield the files below this root that the import statements of a source name."""
        for level, name in imports(source):
            for place in self._places(path, level, name):
                file = _file_of(place)
                if file is not None and self._holds(file):
                    yield file
                    yield from filter(Path.is_file, self._packages_above(file))

    def _places(self, path: Path, level: int, name: Name) -> Iterator[Path]:
        """Yield the paths, without suffix, where the module behind an import statement may lie."""
        if level:
            if level <= len(path.parents):
                yield path.parents[level - 1].joinpath(*name)
        elif name[0] == self.package:
            yield self.folder.joinpath(*name[1:])
        elif name[0] != CORE:  # whose numerics version is part of every key
            tops = [*([] if self.package else [self.folder / name[0]]), *places_on_the_path(name[0])]
            yield from (top.joinpath(*name[1:]) for top in tops)

    def _holds(self, path: Path) -> bool:
        if self.folder not in path.parents:
            return False
        # A single-file plugin in site-packages has all packages below its root: only modules beside it count.
        beside = self.folder.name not in INSTALLED or path.parent == self.folder
        return beside and not INSTALLED & set(path.relative_to(self.folder).parts)  # of an environment in the folder

    def _packages_above(self, file: Path) -> Iterator[Path]:
        """Yield each ``__init__.py`` that runs before a file is imported, except the root's own."""
        return (folder / "__init__.py" for folder in file.parents if self.folder in folder.parents)


def imports(source: str) -> Iterator[tuple[int, Name]]:
    """Yield everything that the import statements of a source may refer to, including those in functions.

    Yields:
        (level, name): level 0 is an absolute import, others count the dots of a relative one, whose name may be empty.
    """
    for node in ast.walk(_parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = tuple(alias.name.split("."))
                yield from ((0, parts[:length]) for length in range(1, len(parts) + 1))
        elif isinstance(node, ast.ImportFrom):
            base = tuple(node.module.split(".")) if node.module else ()
            yield node.level, base
            yield from ((node.level, (*base, alias.name)) for alias in node.names)


def places_on_the_path(top: str) -> list[Path]:
    """Return where Python finds a top-level module or package, without importing it: paths without suffix.

    A namespace package has several; a module without a file or in the standard library has none.
    """
    if top in sys.stdlib_module_names:
        return []
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):  # a module created by hand has no spec
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(folder).resolve() for folder in spec.submodule_search_locations]
    return [Path(spec.origin).resolve().with_suffix("")] if spec.origin and spec.has_location else []


def read_source(path: Path) -> str:
    """Return the text of a source file; bytes that are not UTF-8 become surrogates."""
    return path.read_text("utf-8", errors="surrogateescape")


def _parse(source: str) -> ast.Module:
    """Return a syntax tree, empty if the source is not valid Python: importing it gives a better message."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on strings like "\d": shown when the file is imported
        try:
            return ast.parse(source.encode("utf-8", errors="surrogateescape"))
        except (SyntaxError, ValueError, RecursionError):
            return ast.Module(body=[], type_ignores=[])


def _file_of(place: Path) -> Path | None:
    """Return the file of the module at a path without suffix: a package first, as Python prefers it."""
    files = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    return next((file for file in files if file.is_file()), None)

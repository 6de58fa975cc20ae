"""Sources: an edit of a plugin, or of a helper that it imports, is another hash; an edit elsewhere is not."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ssl3d.registry import load
from ssl3d.results.sources import keep_imported, source_files, sources_hash


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of a plugin, a helper that it imports, a helper of that one, and a stranger."""
    folder = tmp_path / "acme_plugins"
    (folder / "deep").mkdir(parents=True)
    for name, text in {
        "__init__.py": "",
        "deep/__init__.py": "",
        "plugin.py": "import json\nfrom . import helper\nfrom ssl3d import card\nclass Plugin:\n    pass\n",
        "helper.py": "from acme_plugins.deep.inner import VALUE\n",
        "deep/inner.py": "VALUE = 1\n",
        "stranger.py": "",
    }.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.startswith("acme_plugins")]:
        del sys.modules[name]


def fresh(package: Path) -> str:
    """The hash as a new process sees it."""
    return sources_hash(imported_anew())


def imported_anew() -> type:
    """The plugin of the package, as a new process imports it."""
    for name in [name for name in sys.modules if name.startswith("acme_plugins")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    importlib.import_module("acme_plugins.stranger")
    kind: type = importlib.import_module("acme_plugins.plugin").Plugin
    return kind


def names(package: Path) -> set[str]:
    """The files that count, relative to the package."""
    return {str(path.relative_to(package)) for path in source_files(sys.modules["acme_plugins.plugin"].Plugin)}


def test_helpers_of_the_same_package_count_and_nothing_else_does(package: Path) -> None:
    before = fresh(package)
    assert names(package) == {"__init__.py", "plugin.py", "helper.py", "deep/__init__.py", "deep/inner.py"}
    (package / "stranger.py").write_text("X = 1\n")
    assert fresh(package) == before
    for name in ("plugin.py", "helper.py", "deep/inner.py"):
        text = (package / name).read_text()
        (package / name).write_text(text + "# edited\n")
        assert fresh(package) != before, name
        (package / name).write_text(text)
    assert fresh(package) == before


def test_a_package_that_is_moved_keeps_its_hash(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fresh(package)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    package.rename(moved / "acme_plugins")
    monkeypatch.syspath_prepend(str(moved))
    assert fresh(package) == before


def test_a_loose_file_counts_with_what_it_imports_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loose_helper.py").write_text("VALUE = 1\n")
    (tmp_path / "loose.py").write_text(
        "import loose_helper\nfrom ssl3d.dataset import Dataset\nclass Plugin(Dataset):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    kind = load("datasets", f"{tmp_path / 'loose.py'}:Plugin")
    assert {path.name for path in source_files(kind)} == {"loose.py", "loose_helper.py"}
    monkeypatch.delitem(sys.modules, "loose_helper")


LAZY = {  # what a function may say to import the same helper
    "absolute": "from acme_plugins.helper import VALUE",
    "whole": "import acme_plugins.helper",
    "module": "from acme_plugins import helper",
    "relative": "from .helper import VALUE",
    "relative module": "from . import helper",
}


def lazily(package: Path, statement: str) -> None:
    """Let the plugin import in a function, and nowhere else."""
    (package / "plugin.py").write_text(f"class Plugin:\n    def build(self):\n        {statement}\n")


@pytest.mark.parametrize("statement", LAZY.values(), ids=LAZY)
def test_a_helper_that_a_function_imports_counts_before_it_is_imported(package: Path, statement: str) -> None:
    lazily(package, statement)
    kind: Any = imported_anew()
    before = sources_hash(kind)
    assert {"plugin.py", "helper.py", "deep/inner.py"} <= names(package)
    assert "acme_plugins.helper" not in sys.modules
    kind().build()
    assert "acme_plugins.deep.inner" in sys.modules
    assert sources_hash(kind) == before
    for name in ("helper.py", "deep/inner.py", "deep/__init__.py"):
        text = (package / name).read_text()
        (package / name).write_text(text + "# edited\n")
        assert fresh(package) != before, name
        (package / name).write_text(text)
    assert fresh(package) == before


def test_relative_imports_count_from_the_folder_of_the_file(package: Path) -> None:
    lazily(package, "from .deep import middle")
    (package / "deep" / "middle.py").write_text("def f():\n    from . import inner\n    from ..helper import VALUE\n")
    (package / "inner.py").write_text("")
    imported_anew()
    assert names(package) == {"plugin.py", "helper.py", "deep/__init__.py", "deep/middle.py", "deep/inner.py"}


def test_a_package_counts_by_its_init_and_before_a_module_of_its_name(package: Path) -> None:
    lazily(package, "import acme_plugins.deep")
    (package / "deep.py").write_text("")
    (package / "deep" / "__init__.py").write_text("from .inner import VALUE\n")
    before = fresh(package)
    assert names(package) == {"__init__.py", "plugin.py", "deep/__init__.py", "deep/inner.py"}
    (package / "deep" / "__init__.py").write_text("from .inner import VALUE  # edited\n")
    assert fresh(package) != before


def test_an_edit_after_the_import_does_not_count_until_the_module_is_imported_anew(package: Path) -> None:
    """What runs is what was imported, also where the first hash is older than the import."""
    lazily(package, "from .helper import VALUE")
    kind: Any = imported_anew()
    before = sources_hash(kind)
    kind().build()
    keep_imported()  # at the end of a run
    (package / "helper.py").write_text("VALUE = 2\n")
    assert sources_hash(kind) == before
    assert fresh(package) != before


def test_an_edit_before_the_import_counts(package: Path) -> None:
    lazily(package, "from .helper import VALUE")
    kind: Any = imported_anew()
    before = sources_hash(kind)
    keep_imported()
    (package / "helper.py").write_text("VALUE = 2\n")
    edited = sources_hash(kind)
    assert edited != before
    kind().build()
    assert sources_hash(kind) == edited


@pytest.mark.parametrize("text", ["def (:", "x = '\\xe9'  # \xe9", "'\\d'"], ids=["no Python", "Latin-1", "warning"])
def test_a_helper_that_cannot_be_read_counts_by_its_content(package: Path, text: str) -> None:
    lazily(package, "from .stranger import VALUE")
    kind = imported_anew()
    del sys.modules["acme_plugins.stranger"]
    before = sources_hash(kind)
    (package / "stranger.py").write_bytes(text.encode("latin-1"))
    assert sources_hash(kind) != before


STRANGERS = """
import json, torch, ssl3d.recipe
from ssl3d.dataset import Dataset
class Plugin(Dataset):
    def read(self):
        import csv
        import sklearn.linear_model
        from ssl3d.card import Card
        import acme_environment_only
"""


def test_neither_the_standard_library_nor_an_environment_nor_the_core_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / ".venv" / "lib" / "site-packages"  # below the folder of the loose file
    (site / "acme_environment_only").mkdir(parents=True)
    (site / "acme_environment_only" / "__init__.py").write_text("")
    (tmp_path / "ssl3d").mkdir()
    (tmp_path / "ssl3d" / "recipe.py").write_text("")
    monkeypatch.syspath_prepend(str(site))
    (tmp_path / "loose_alone.py").write_text(STRANGERS)
    kind = load("datasets", f"{tmp_path / 'loose_alone.py'}:Plugin")
    assert source_files(kind) == [tmp_path / "loose_alone.py"]
    importlib.import_module("acme_environment_only")
    assert source_files(kind) == [tmp_path / "loose_alone.py"]
    monkeypatch.delitem(sys.modules, "acme_environment_only")


def test_a_loose_file_counts_with_what_its_functions_import_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "acme_lazy").mkdir()
    (tmp_path / "acme_lazy" / "nets.py").write_text("def f():\n    import acme_second\n")
    (tmp_path / "acme_second.py").write_text("VALUE = 1\n")
    (tmp_path / "loose_lazy.py").write_text(
        "from ssl3d.dataset import Dataset\n"
        "class Plugin(Dataset):\n    @staticmethod\n    def go():\n        from acme_lazy.nets import f\n        f()\n"
    )
    kind: Any = load("datasets", f"{tmp_path / 'loose_lazy.py'}:Plugin")
    before = sources_hash(kind)
    assert {path.name for path in source_files(kind)} == {"loose_lazy.py", "nets.py", "acme_second.py"}
    (tmp_path / "acme_second.py").write_text("VALUE = 2\n")
    edited = sources_hash(kind)
    assert edited != before
    kind.go()
    assert {"acme_lazy.nets", "acme_second"} <= sys.modules.keys()
    assert sources_hash(kind) == edited


def test_a_package_installed_from_below_the_folder_of_a_loose_file_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "src" / "acme_source").mkdir(parents=True)
    (tmp_path / "src" / "acme_source" / "__init__.py").write_text("")
    (tmp_path / "src" / "acme_source" / "nets.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    (tmp_path / "loose_source.py").write_text(
        "from ssl3d.dataset import Dataset\nclass Plugin(Dataset):\n    def go(self):\n"
        "        from acme_source import nets\n"
    )
    kind = load("datasets", f"{tmp_path / 'loose_source.py'}:Plugin")
    assert {path.name for path in source_files(kind)} == {"loose_source.py", "__init__.py", "nets.py"}


def test_two_classes_of_one_file_differ() -> None:
    one, other = (load("backbones", name) for name in ("r3d_18", "mc3_18"))
    assert source_files(one) == source_files(other)
    assert sources_hash(one) != sources_hash(other)

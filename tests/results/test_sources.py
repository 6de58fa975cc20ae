"""Sources: an edit of a plugin, or of a helper that it imports, is another hash; an edit elsewhere is not."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssl3d.registry import load
from ssl3d.results import sources
from ssl3d.results.sources import source_files, sources_hash


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
    for name in [name for name in sys.modules if name.startswith("acme_plugins")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    sources._text.cache_clear()
    importlib.import_module("acme_plugins.stranger")
    return sources_hash(importlib.import_module("acme_plugins.plugin").Plugin)


def test_helpers_of_the_same_package_count_and_nothing_else_does(package: Path) -> None:
    before = fresh(package)
    kind = sys.modules["acme_plugins.plugin"].Plugin
    assert {path.name for path in source_files(kind)} == {"__init__.py", "plugin.py", "helper.py", "inner.py"}
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


def test_two_classes_of_one_file_differ() -> None:
    one, other = (load("backbones", name) for name in ("r3d_18", "mc3_18"))
    assert source_files(one) == source_files(other)
    assert sources_hash(one) != sources_hash(other)

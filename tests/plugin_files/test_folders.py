"""A plugin file imports what lies beside it, whenever it does so; nothing else changes for anybody."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ssl3d.errors import PluginError
from ssl3d.plugin_files import folders
from ssl3d.registry import load
from ssl3d.testing.imports import side_effects

EAGER = "from ssl3d.dataset import Dataset\nimport acme_beside\nclass Mine(Dataset):\n    value = acme_beside.VALUE\n"
LAZY = """
from ssl3d.dataset import Dataset
class Mine(Dataset):
    @staticmethod
    def value():
        import acme_beside
        return acme_beside.VALUE
"""


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget which folders have plugin files, and the modules that were imported from them."""
    monkeypatch.setattr(folders._FINDER, "folders", {})
    _forget()
    yield
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.startswith("acme_")]:
        del sys.modules[name]


def write(folder: Path, plugin: str = LAZY, **helpers: str) -> str:
    """Write a plugin file and modules beside it; return the plugin's reference."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"mine": plugin, **helpers}.items():
        (folder / f"{name}.py").write_text(text)
    return f"{folder / 'mine.py'}:Mine"


def value(reference: str) -> Any:
    """What the plugin reads from its helper when it is called."""
    kind: Any = load("datasets", reference)
    return kind.value() if callable(kind.value) else kind.value


@pytest.mark.parametrize("plugin", [EAGER, LAZY], ids=["at the top", "in a function"])
def test_a_helper_is_imported_from_anywhere(tmp_path: Path, plugin: str) -> None:
    path = list(sys.path)
    reference = write(tmp_path, plugin, acme_beside="from acme_second import VALUE\n", acme_second="VALUE = 7\n")
    assert value(reference) == 7
    assert sys.path == path
    assert not (tmp_path / "__pycache__").exists()  # it could be older than an edit of the same second


def test_packages_beside_the_file_are_imported_too(tmp_path: Path) -> None:
    reference = write(tmp_path, LAZY.replace("import acme_beside", "from acme_nets import heads as acme_beside"))
    write(tmp_path / "acme_nets", heads="from .deep import VALUE\n", deep="VALUE = 3\n")
    assert value(reference) == 3
    (tmp_path / "acme_nets" / "__init__.py").write_text("")
    del sys.modules["acme_nets"], sys.modules["acme_nets.heads"]
    assert value(reference) == 3


def test_what_no_import_statement_names_is_not_found(tmp_path: Path) -> None:
    value(write(tmp_path, acme_beside="VALUE = 1\n", acme_other="VALUE = 1\n"))
    with pytest.raises(ModuleNotFoundError):
        import acme_other  # type: ignore[import-not-found]  # noqa: F401


def test_what_is_installed_is_not_shadowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "site-packages", acme_beside="VALUE = 'installed'\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    plugin = LAZY.replace("import acme_beside", "import acme_beside, colorsys\n        colorsys.rgb_to_hsv")
    assert value(write(tmp_path / "mine", plugin, acme_beside="VALUE = 'mine'\n", colorsys="")) == "installed"


@pytest.mark.parametrize("imported", [False, True])
def test_two_folders_with_a_helper_of_one_name_are_refused(tmp_path: Path, imported: bool) -> None:
    """The second would run the helper of the first."""
    first = write(tmp_path / "first", acme_beside="VALUE = 1\n")
    second = write(tmp_path / "second", acme_beside="VALUE = 2\n")
    kind: Any = load("datasets", first)
    if imported:
        kind.value()
    with pytest.raises(PluginError, match=r"mine\.py imports 'acme_beside' from its folder, .* in .*first; rename"):
        load("datasets", second)
    assert value(first) == 1


def test_a_module_of_the_working_directory_in_place_of_the_helper_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = write(tmp_path / "mine", acme_beside="VALUE = 1\n")
    write(tmp_path / "here", acme_beside="VALUE = 2\n")
    monkeypatch.syspath_prepend(str(tmp_path / "here"))
    with pytest.raises(PluginError, match=r"another 'acme_beside', in .*here; rename one"):
        load("datasets", reference)


def test_the_folder_on_the_path_is_no_other_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert value(write(tmp_path, acme_beside="VALUE = 1\n")) == 1


@pytest.mark.slow  # another process
def test_a_fresh_process_of_the_conformance_kit_finds_the_helper(tmp_path: Path) -> None:
    reference = write(tmp_path, EAGER, acme_beside="print('loud')\nVALUE = 1\n")
    assert side_effects(load("datasets", reference)) == ["prints 'loud'"]

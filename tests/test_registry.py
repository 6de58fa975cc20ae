"""Names to classes: clashes, typos, broken plugins, files."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from ssl3d.errors import PluginError
from ssl3d.listing import listed
from ssl3d.registry import KINDS, WORDS, Kind, find_kind, load, plugins, split_variant
from ssl3d.train.build import backbone_class, method_class

METHOD = dedent(
    '''
    from ssl3d.method import Batch, Card, Loss, Method


    class Mine(Method):
        """Mine, documented."""

        card = Card("Mine", "a method of a third party")

        def loss(self, batch: Batch) -> Loss:
            first, second = batch.online
            return Loss((first - second).square().mean())
    '''
)
PACKAGES = ("ssl3d_plugins.methods", "ssl3d_plugins.backbones")  # a package is imported to find a module in it


class Site:
    """A folder on the import path, where distributions are installed by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, distribution: str, points: str, **modules: str) -> None:
        """Write a distribution's metadata and its modules; ``points`` are the lines of entry_points.txt."""
        info = self.folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(dedent(points))
        for name, source in modules.items():
            (self.folder / f"{name}.py").write_text(source)
        plugins.cache_clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    plugins.cache_clear()
    yield Site(folder)
    plugins.cache_clear()
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(folder) in str(sys.modules[name].__file__):
            del sys.modules[name]


def test_a_third_party_method_is_found_by_its_entry_point(site: Site) -> None:
    site.install("their-package", "[ssl3d.methods]\ntheirs = their_module:Mine\n", their_module=METHOD)
    assert method_class("theirs").card.name == "Mine"
    (entry,) = [entry for entry in listed() if entry.name == "theirs"]
    assert (entry.distribution, entry.summary, entry.problem) == ("their-package", "a method of a third party", None)


def test_every_kind_is_listed() -> None:
    assert {entry.kind for entry in listed()} == set(KINDS)
    assert {entry.kind for entry in listed(["protocols"])} == {"protocols"}
    assert all(entry.summary for entry in listed())


def test_listing_imports_no_plugin_and_no_torch() -> None:
    code = (
        "import sys; from ssl3d.listing import listed; listed(); "
        "print([m for m in sys.modules if m == 'torch' or m.startswith('ssl3d_plugins.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.strip("[]\n").replace("'", "").split(", ")) <= {"", *PACKAGES}


def test_two_distributions_that_claim_one_name_are_both_named_and_disturb_no_other(site: Site) -> None:
    site.install("first", "[ssl3d.methods]\nclash = first_module:Mine\n", first_module=METHOD)
    site.install(
        "second", "[ssl3d.methods]\nclash = second_module:Mine\nfine = second_module:Mine\n", second_module=METHOD
    )
    with pytest.raises(PluginError, match=r"'clash'.*first \(first_module:Mine\).*second \(second_module:Mine\)"):
        load("methods", "clash")
    assert method_class("fine").card.name == "Mine"
    assert method_class("byol").card.name == "BYOL"
    problems = {entry.name: entry.problem for entry in listed() if entry.kind == "methods"}
    assert "first" in str(problems.pop("clash"))
    assert set(problems.values()) == {None}


def test_a_clash_with_a_first_party_name_is_an_error_too(site: Site) -> None:
    site.install("impostor", "[ssl3d.methods]\nbyol = impostor:Mine\n", impostor=METHOD)
    with pytest.raises(PluginError, match=r"ssl3d.*impostor|impostor.*ssl3d"):
        method_class("byol")
    assert method_class("simclr").card.name == "SimCLR"


def test_one_distribution_found_twice_on_the_path_is_no_clash(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("theirs", "[ssl3d.methods]\ntheirs = their_module:Mine\n", their_module=METHOD)
    again = tmp_path / "again"
    again.mkdir()
    monkeypatch.syspath_prepend(str(again))
    Site(again).install("theirs", "[ssl3d.methods]\ntheirs = their_module:Mine\n")
    assert plugins("methods")["theirs"].problem is None


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('no licence\\nfound')", "RuntimeError: no licence"),
        ("import there_is_no_such_module", "ModuleNotFoundError.*there_is_no_such_module"),
        ("def (:", "SyntaxError"),
        ("x = 1", "AttributeError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
    ],
)
def test_a_plugin_that_fails_to_import_is_reported_beside_the_others(site: Site, source: str, reason: str) -> None:
    site.install("broken", "[ssl3d.methods]\nbroken = broken_module:Mine\n", broken_module=source)
    with pytest.raises(PluginError, match=reason) as caught:
        load("methods", "broken")
    assert "\n" not in str(caught.value)
    problems = {entry.name: entry.problem for entry in listed() if entry.kind == "methods"}
    assert problems.pop("broken")
    assert set(problems.values()) == {None}
    assert {"byol", "simclr", "moco"} <= problems.keys()


NO_PLUGIN = {
    "function": ("odd:function", r"not a class: 'odd:function' is a function"),
    "module": ("odd", r"not a class: 'odd' is a module; name a class in it"),
    "alone": (
        "odd:Alone",
        r"not a method: the class Alone is derived from no other class, not from ssl3d.method.Method",
    ),
    "network": ("odd:Network", r"not a method: the class Network is derived from torch.*Module, not from"),
    "backbone": ("ssl3d_plugins.backbones.tiny:Tiny", r"Tiny is derived from ssl3d.backbone.Backbone, not from"),
}


@pytest.mark.parametrize("name", NO_PLUGIN)
def test_an_entry_point_that_is_no_plugin_is_refused_and_listed_as_broken_with_why(site: Site, name: str) -> None:
    target, reason = NO_PLUGIN[name]
    source = "from torch import nn\nclass Alone: ...\nclass Network(nn.Module): ...\ndef function(): ...\n"
    site.install("odd", f"[ssl3d.methods]\n{name} = {target}\n", odd=source)
    with pytest.raises(PluginError, match=reason):
        load("methods", name)
    (entry,) = [entry for entry in listed() if entry.distribution == "odd"]
    assert re.search(reason, str(entry.problem))


@pytest.mark.parametrize(
    ("kind", "reference"),
    [
        ("backbones", "ssl3d_plugins.methods.byol:BYOL"),
        ("methods", "ssl3d.data.sets.demo:Demo"),
        ("datasets", "ssl3d.evaluate.protocols.knn:KNN"),
        ("protocols", "ssl3d.recipe:EncoderRecipe"),
    ],
)
def test_a_class_of_another_kind_is_refused(kind: Kind, reference: str) -> None:
    with pytest.raises(PluginError, match=f"is not a {WORDS[kind]}: the class .* is derived from ssl3d"):
        load(kind, reference)


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        ("byol", "methods"),
        ("timm/resnet18", "backbones"),
        ("demo", "datasets"),
        ("knn", "protocols"),
        ("ssl3d_plugins.backbones.tiny:Tiny", "backbones"),
        ("ssl3d.evaluate.protocols.knn:KNN", "protocols"),
    ],
)
def test_the_kind_of_a_reference_is_found(reference: str, kind: Kind) -> None:
    assert find_kind(reference) == kind


@pytest.mark.parametrize(
    ("reference", "message"),
    [("knnn", "unknown plugin 'knnn'; did you mean 'knn'"), ("ssl3d.recipe:EncoderRecipe", "not a plugin: the class")],
)
def test_a_reference_of_no_kind_is_refused(reference: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        find_kind(reference)


@pytest.mark.parametrize(
    ("kind", "name", "near"),
    [
        ("methods", "boyl", "byol"),
        ("backbones", "r3d18", "r3d_18"),
        ("datasets", "mrnt", "mrnet"),
        ("protocols", "liner", "linear"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(kind: Kind, name: str, near: str) -> None:
    with pytest.raises(PluginError, match=f"unknown {WORDS[kind]} {name!r}; did you mean {near!r}"):
        load(kind, name)


def test_a_name_like_no_other_lists_what_there_is() -> None:
    with pytest.raises(PluginError, match=r"known: .*byol.*simclr"):
        load("methods", "qqqqqq")


def test_a_variant_is_split_off_where_its_family_is_registered() -> None:
    assert split_variant("backbones", "timm/resnet18") == ("timm", "resnet18")
    assert split_variant("datasets", "medmnist3d:adrenalmnist3d") == ("medmnist3d", "adrenalmnist3d")
    assert split_variant("backbones", "package.module:Class") == ("package.module:Class", None)
    assert split_variant("backbones", "timm/") == ("timm/", None)


def test_a_file_in_a_folder_that_is_called_like_a_plugin_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "byol").mkdir()
    (tmp_path / "byol/mine.py").write_text(METHOD)
    monkeypatch.chdir(tmp_path)
    assert method_class("byol/mine.py:Mine").card.name == "Mine"


def test_module_and_class_are_a_name() -> None:
    assert method_class("ssl3d_plugins.methods.byol:BYOL") is method_class("byol")
    with pytest.raises(PluginError, match=r"ModuleNotFoundError.*no_such"):
        load("methods", "no_such.module:Class")


def test_a_file_and_class_are_a_name_and_imported_twice_are_one_class(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(METHOD)
    first = method_class(f"{file}:Mine")
    assert method_class(f"{tmp_path}/../{tmp_path.name}/mine.py:Mine") is first


def test_a_file_that_was_edited_is_imported_anew(tmp_path: Path) -> None:
    """A recipe carries the hash of the file, so what runs must be what was hashed."""
    file = tmp_path / "mine.py"
    file.write_text(METHOD)
    before = method_class(f"{file}:Mine")
    file.write_text(METHOD.replace('"Mine"', '"Edited"'))
    assert (before.card.name, method_class(f"{file}:Mine").card.name) == ("Mine", "Edited")


def test_a_file_named_wrongly_says_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    with pytest.raises(PluginError, match="no such file"):
        load("methods", f"{file}:Mine")
    file.write_text(METHOD)
    with pytest.raises(PluginError, match=r"no class 'Mien'; did you mean .*mine.py:Mine"):
        load("methods", f"{file}:Mien")
    file.write_text("raise ValueError('half-written')")
    for _ in range(2):  # the second time, too: nothing half-imported is kept
        with pytest.raises(PluginError, match="ValueError: half-written"):
            load("methods", f"{file}:Mine")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (METHOD, r"mine.py names no class; did you mean mine.py:Mine\?$"),
        (
            "from ssl3d_plugins.methods.byol import BYOL, BYOLConfig\n"
            "class MineConfig(BYOLConfig): ...\nclass One(BYOL): ...\nclass Two(One): ...\nclass _Hidden(One): ...\n",
            r"did you mean mine.py:One or mine.py:Two\?$",
        ),
        ("import ssl3d\nx = 1\n", "no method was found in it: derive a class from ssl3d.method.Method"),
        ("raise OSError('run')\nfrom ssl3d import method\nclass One(method.Method[int]): ...\n", "mine.py:One"),
        ("def (:", "cannot be read as Python"),
    ],
)
def test_a_file_without_a_class_suggests_those_in_it_without_running_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(PluginError, match=message):
        load("methods", "mine.py")


@pytest.mark.parametrize("reference", ["byol/anything", "simclr:x", "knn/5"])
def test_a_plugin_that_is_no_family_takes_no_variant(reference: str) -> None:
    kind: Kind = "protocols" if reference.startswith("knn") else "methods"
    with pytest.raises(PluginError, match=f"{reference!r}: '.*' has no variants; write"):
        load(kind, reference)


@pytest.mark.parametrize(("name", "message"), [("timm", "family"), ("tiny/x", "no variants")])
def test_a_family_needs_a_variant_and_no_other_takes_one(name: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        backbone_class(name)

"""Names to classes: the only module that knows about plugins.

A plugin is an entry point in one of the groups ``ssl3d.methods``, ``ssl3d.backbones``, ``ssl3d.datasets``,
``ssl3d.protocols``. Listing imports nothing. Wherever a name is accepted, so are:

- ``family/variant`` or ``family:variant`` (``timm/resnet18``, ``medmnist3d:adrenalmnist3d``): the entry point
  ``family``, whose class takes the variant;
- ``package.module:Class``;
- ``path/to/file.py:Class``, for research code without packaging; it may import files beside it
  (:mod:`ssl3d.plugin_files.folders`).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from types import ModuleType
from typing import Literal

from ssl3d.errors import PluginError, nearest
from ssl3d.plugin_files.classes import parse, subclasses
from ssl3d.plugin_files.folders import SourceOnly, allow_imports
from ssl3d.plugin_files.imports import LOOSE

Kind = Literal["methods", "backbones", "datasets", "protocols"]
KINDS: tuple[Kind, ...] = ("methods", "backbones", "datasets", "protocols")
WORDS: dict[Kind, str] = {  # singular, for messages
    "methods": "method",
    "backbones": "backbone",
    "datasets": "data set",
    "protocols": "protocol",
}
BASES: dict[Kind, tuple[str, ...]] = {  # all plugins derive from the first; not imported here
    "methods": ("ssl3d.method.Method",),
    "backbones": ("ssl3d.backbone.Backbone",),
    "datasets": ("ssl3d.dataset.Dataset",),
    "protocols": ("ssl3d.protocol.Protocol", "ssl3d.protocol.FeatureProtocol", "ssl3d.protocol.EncoderProtocol"),
}


@dataclass(frozen=True)
class Plugin:
    """A registered name. ``problem`` says why it cannot be used, as far as known without importing it."""

    kind: Kind
    name: str
    target: str
    distribution: str
    problem: str | None = None


@cache
def plugins(kind: Kind) -> dict[str, Plugin]:
    """Return every registered plugin of a kind by name, sorted, without importing any of them.

    A name claimed by two distributions is returned with a ``problem`` that names both.
    """
    claims: defaultdict[str, dict[tuple[str, str], None]] = defaultdict(dict)
    for distribution in distributions():
        for point in distribution.entry_points.select(group=f"ssl3d.{kind}"):
            claims[point.name][(distribution.name, point.value)] = None
    return {name: _plugin(kind, name, sorted(claims[name])) for name in sorted(claims)}


def _plugin(kind: Kind, name: str, claims: list[tuple[str, str]]) -> Plugin:
    owners = sorted({owner for owner, _ in claims})
    problem = None
    if len(claims) > 1:
        problem = f"claimed by {' and by '.join(f'{owner} ({target})' for owner, target in claims)}; uninstall one"
    return Plugin(kind, name, claims[0][1], ", ".join(owners), problem)


def split_variant(kind: Kind, reference: str) -> tuple[str, str | None]:
    """Split ``timm/resnet18`` or ``medmnist3d:adrenalmnist3d`` where the family is registered.

    Returns:
        (name, variant); a reference of any other form is returned whole, with None.
    """
    file = reference.endswith(".py") or ".py:" in reference
    known = {} if file else plugins(kind)  # a folder may have the name of a family
    for mark in "/:":
        family, found, variant = reference.partition(mark)
        if found and variant and family in known:
            return family, variant
    return reference, None


def find_kind(reference: str) -> Kind:
    """Return the kind of plugin a reference stands for; methods take precedence if several kinds have the name.

    Raises:
        PluginError: there is no such plugin, or it is of none of the kinds.
    """
    for kind in KINDS:
        if split_variant(kind, reference)[0] in plugins(kind):
            return kind
    if ":" not in reference and not reference.endswith(".py"):
        raise PluginError(f"unknown plugin {reference!r}{nearest(reference, [n for k in KINDS for n in plugins(k)])}")
    loaded = _load_class(reference, reference, "plugin", KINDS)
    for kind in KINDS:
        if _is_a(loaded, kind):
            return kind
    raise PluginError(
        f"{reference!r} is not a plugin: {_derived(loaded)}, not from {_either(BASES[k][0] for k in KINDS)}"
    )


def load(kind: Kind, reference: str) -> type:
    """Import the class behind a registered name, ``module:Class`` or ``path/to/file.py:Class``.

    Raises:
        PluginError: the name is unknown (the nearest is suggested) or claimed twice, its import fails, it does not name
            a class of this kind, or it has a variant that the plugin does not take.
    """
    word = WORDS[kind]
    name, variant = split_variant(kind, reference)
    plugin = plugins(kind).get(name)
    if plugin is not None and plugin.problem:
        raise PluginError(f"{word} {name!r} is {plugin.problem}")
    if plugin is None and ":" not in name and not name.endswith(".py"):
        raise PluginError(f"unknown {word} {name!r}{nearest(name, plugins(kind))}")
    loaded = _load_class(plugin.target if plugin else name, reference, word, (kind,))
    if not _is_a(loaded, kind):
        raise PluginError(f"{reference!r} is not a {word}: {_derived(loaded)}, not from {BASES[kind][0]}")
    if variant is not None and kind != "datasets" and not getattr(loaded, "family", False):
        raise PluginError(f"{word} {reference!r}: {name!r} has no variants; write {name!r}")
    return loaded


def _load_class(target: str, reference: str, word: str, kinds: Iterable[Kind]) -> type:
    try:
        loaded = _from_file(target, kinds) if ".py:" in f"{target}:" else EntryPoint(word, target, word).load()
    except PluginError:
        raise
    except (Exception, SystemExit) as error:  # any exception from a plugin's import is the plugin's fault
        reason = next(iter(f"{type(error).__name__}: {error}".splitlines()))
        raise PluginError(f"{word} {reference!r} cannot be imported from {target!r} ({reason})") from error
    if isinstance(loaded, ModuleType):
        raise PluginError(f"{word} {reference!r} is not a class: {target!r} is a module; name a class in it")
    if not isinstance(loaded, type):
        raise PluginError(f"{word} {reference!r} is not a class: {target!r} is a {type(loaded).__name__}")
    return loaded


def _is_a(loaded: type, kind: Kind) -> bool:
    return any(f"{base.__module__}.{base.__qualname__}" == BASES[kind][0] for base in loaded.__mro__)


def _derived(loaded: type) -> str:
    bases = " and ".join(f"{base.__module__}.{base.__qualname__}" for base in loaded.__bases__ if base is not object)
    return f"the class {loaded.__name__} is derived from {bases or 'no other class'}"


def _from_file(target: str, kinds: Iterable[Kind]) -> object:
    """Import ``path/to/file.py:Class`` as a module named by its path and content, so that edits take effect."""
    file, _, attribute = target.rpartition(":") if ".py:" in target else (target, "", "")
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise PluginError(f"no such file: {path} (from {target!r})")
    if not attribute:
        raise PluginError(f"{file} names no class{_suggest(file, path, kinds)}")
    name, _ = module_of(target)
    if name not in sys.modules:
        allow_imports(path)
        spec = importlib.util.spec_from_file_location(name, path, loader=SourceOnly(name, str(path)))
        if spec is None or spec.loader is None:
            raise PluginError(f"{path} cannot be imported as Python")
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    module = sys.modules[name]
    if not hasattr(module, attribute):
        raise PluginError(f"{file} has no class {attribute!r}{_suggest(file, path, kinds)}")
    return getattr(module, attribute)


def module_of(target: str) -> tuple[str, str]:
    """Return the module name of ``module:Class`` or ``file.py:Class``, and the file in the second case.

    Raises:
        PluginError: the file cannot be opened. A missing file still has a name.
    """
    if ".py:" not in target:
        return target.partition(":")[0], ""
    try:
        path = Path(target.rpartition(":")[0]).expanduser().resolve()
        content = path.read_bytes() if path.is_file() else b""
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: circular links
        reason = getattr(error, "strerror", None) or error
        raise PluginError(f"the file of {target!r} cannot be opened ({reason}); correct its name") from None
    return f"{LOOSE}{path.stem}_{hashlib.sha256(bytes(path) + content).hexdigest()[:8]}", str(path)


def _suggest(file: str, path: Path, kinds: Iterable[Kind]) -> str:
    """Name the classes of some kinds in a file, without running it."""
    kinds = tuple(kinds)
    bases = [base.rpartition(".")[2] for kind in kinds for base in BASES[kind]]
    names = subclasses(parse(path), bases)
    word = WORDS[kinds[0]] if len(kinds) == 1 else "plugin"
    if not names:
        return f", and no {word} was found in it: derive a class from {_either(BASES[kind][0] for kind in kinds)}"
    return f"; did you mean {_either(f'{file}:{name}' for name in names)}?"


def _either(texts: Iterable[str]) -> str:
    *texts, last = texts
    return f"{', '.join(texts)} or {last}" if texts else last

"""Names to classes: the only place that knows of plugins.

A plugin is an entry point in one of the groups ``ssl3d.methods``, ``ssl3d.backbones``, ``ssl3d.datasets``. Listing
imports nothing. Wherever a name is accepted, these are too:

- ``family/variant`` or ``family:variant`` (``timm/resnet18``, ``medmnist3d:adrenalmnist3d``): the entry point
  ``family``, whose class takes the variant;
- ``package.module:Class``;
- ``path/to/file.py:Class``, for research code without packaging.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from types import CodeType
from typing import Literal

from ssl3d.errors import PluginError, nearest

Kind = Literal["methods", "backbones", "datasets"]
KINDS: tuple[Kind, ...] = ("methods", "backbones", "datasets")


@dataclass(frozen=True)
class Plugin:
    """A registered name. ``problem`` says why it cannot be used, as far as that is known without importing it."""

    kind: Kind
    name: str
    target: str
    distribution: str
    problem: str | None = None


@cache
def plugins(kind: Kind) -> dict[str, Plugin]:
    """Return every registered plugin of a kind by name, sorted, without importing any of them.

    A name that two distributions claim is returned with a ``problem`` that names both.
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
        (name, variant); a reference of any other form comes back whole, with None.
    """
    known = {} if ".py:" in reference else plugins(kind)  # a folder may be called like a family
    for mark in "/:":
        family, found, variant = reference.partition(mark)
        if found and variant and family in known:
            return family, variant
    return reference, None


def load(kind: Kind, reference: str) -> type:
    """Import the class behind a registered name, ``module:Class`` or ``path/to/file.py:Class``.

    Raises:
        PluginError: the name is unknown (the nearest one is suggested), claimed twice, or its import fails.
    """
    name, _ = split_variant(kind, reference)
    plugin = plugins(kind).get(name)
    if plugin is not None and plugin.problem:
        raise PluginError(f"{kind[:-1]} {name!r} is {plugin.problem}")
    if plugin is None and name.endswith(".py"):
        raise PluginError(f"{name!r} is a file; name a class in it, as in {name}:MyClass")
    if plugin is None and ":" not in name:
        raise PluginError(f"unknown {kind[:-1]} {name!r}{nearest(name, plugins(kind))}")
    target = plugin.target if plugin else name
    try:
        loaded = _from_file(target) if ".py:" in target else EntryPoint(name, target, kind).load()
    except PluginError:
        raise
    except (Exception, SystemExit) as error:  # whatever a plugin's import raises is that plugin's fault, and told so
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise PluginError(f"{kind[:-1]} {reference!r} cannot be imported from {target!r} ({reason})") from error
    if not isinstance(loaded, type):
        raise PluginError(f"{kind[:-1]} {reference!r} is not a class: {target!r} names {loaded!r}")
    return loaded


def _from_file(target: str) -> object:
    """Import ``path/to/file.py:Class`` under a module name made from its path and content: edited, it is another."""
    file, _, attribute = target.rpartition(":")
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise PluginError(f"no such file: {path} (from {target!r})")
    name = f"ssl3d_file_{path.stem}_{hashlib.sha256(bytes(path) + path.read_bytes()).hexdigest()[:8]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path, loader=_SourceOnly(name, str(path)))
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
        raise PluginError(f"{path} has no class {attribute!r}{nearest(attribute, _classes(module))}")
    return getattr(module, attribute)


class _SourceOnly(SourceFileLoader):
    """Reads and writes no bytecode: a cached one can be older than an edit of the same second."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002  # importlib's signature
        return self.source_to_code(self.get_data(self.path), self.path)


def _classes(module: object) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, type)]

"""A plugin of any kind by its reference alone: its kind follows from the registries, or from its class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl3d.errors import PluginError
from ssl3d.registry import WORDS, find_kind
from ssl3d.testing.runner import Finding


def check_plugin(
    reference: str,
    settings: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    *,
    root: Path | None = None,
    plane: str | None = None,
) -> list[Finding]:
    """Check a method, backbone, data set or protocol.

    Args:
        reference: a registered name (methods come first), ``module:Class`` or ``file.py:Class``.
        settings: of a method or protocol, in place of its defaults.
        expected_failures: reasons by the names of rules.
        root: folder of a data set's files.
        plane: of a data set.

    Raises:
        UserError: there is no such plugin, its import fails, or an argument is wrong.
    """
    kind = find_kind(reference)
    if settings and kind in {"backbones", "datasets"}:
        raise PluginError(f"{reference!r} is a {WORDS[kind]}, which is checked with its defaults; leave --set out")
    if (root or plane) and kind != "datasets":
        raise PluginError(f"{reference!r} is a {WORDS[kind]}, which reads no files; leave --root and --plane out")
    if kind == "methods":
        from ssl3d.testing.methods import check_method  # noqa: PLC0415  # each kit imports what it needs

        return check_method(reference, settings=settings, expected_failures=expected_failures)
    if kind == "backbones":
        from ssl3d.testing.backbones import check_backbone  # noqa: PLC0415

        return check_backbone(reference, expected_failures=expected_failures)
    if kind == "datasets":
        from ssl3d.testing.datasets import check_dataset  # noqa: PLC0415

        return check_dataset(reference, root=root, plane=plane, expected_failures=expected_failures)
    from ssl3d.testing.protocols import check_protocol  # noqa: PLC0415

    return check_protocol(reference, settings=settings, expected_failures=expected_failures)

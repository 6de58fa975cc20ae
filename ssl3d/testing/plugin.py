"""A method or a backbone by its reference alone: which of them it is, the registries or its class tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl3d.backbone import Backbone
from ssl3d.errors import PluginError, nearest
from ssl3d.registry import load, plugins, split_variant
from ssl3d.testing.backbones import check_backbone
from ssl3d.testing.methods import check_method
from ssl3d.testing.runner import Finding


def check_plugin(
    reference: str,
    settings: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Finding]:
    """Check a method or backbone.

    Args:
        reference: a registered name (methods are looked through first), ``module:Class`` or ``file.py:Class``.
        settings: of a method, in place of its defaults.
        expected_failures: reasons by the names of rules.

    Raises:
        UserError: there is no such plugin, its import fails, or an argument is wrong.
    """
    if not _is_backbone(reference):
        return check_method(reference, settings=settings, expected_failures=expected_failures)
    if settings:
        raise PluginError(f"{reference!r} is a backbone, which is checked with its defaults: leave the settings out")
    return check_backbone(reference, expected_failures=expected_failures)


def _is_backbone(reference: str) -> bool:
    name, _ = split_variant("backbones", reference)
    if reference in plugins("methods"):
        return False
    if name in plugins("backbones"):
        return True
    if ":" not in reference:
        known = [*plugins("methods"), *plugins("backbones")]
        raise PluginError(f"unknown method or backbone {reference!r}{nearest(reference, known)}")
    return issubclass(load("methods", reference), Backbone)

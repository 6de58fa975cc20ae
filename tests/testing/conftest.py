"""Tests of the kit start no fresh process that imports a plugin, which takes seconds, unless that is what they test."""

from __future__ import annotations

from typing import ClassVar

import pytest

from ssl3d.testing import imports


class _Quiet:
    """In place of a fresh process: an import that does nothing else."""

    effects: ClassVar[list[str]] = []

    def __init__(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def no_fresh_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every import for quiet, except in tests marked with ``fresh_import``."""
    if "fresh_import" not in request.keywords:
        monkeypatch.setattr(imports, "_started", {})
        monkeypatch.setattr(imports, "_Import", _Quiet)

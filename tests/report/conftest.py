"""Runs that several files of tests read and do not change: drawing a page takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl3d.report.page import write_report
from tests.report.pages import hostile_results, pictured_run, plain_results, write_run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run made by hand."""
    return write_run(tmp_path_factory.mktemp("runs") / "made", plain_results())


@pytest.fixture(scope="session")
def page(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of this run."""
    return write_report(made, tmp_path_factory.mktemp("pages") / "report.html")


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose names are code elsewhere."""
    return write_run(tmp_path_factory.mktemp("runs") / "hostile", hostile_results())


@pytest.fixture(scope="session")
def hostile_page(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of that run."""
    return write_report(hostile, tmp_path_factory.mktemp("pages") / "hostile.html")


@pytest.fixture(scope="session")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on packed volumes, with features."""
    return pictured_run(tmp_path_factory.mktemp("pictured"))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures out of pages: tables and words are there."""
    monkeypatch.setattr("ssl3d.report.page.sections", lambda _run, _volumes: [])

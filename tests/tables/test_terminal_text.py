"""Names and notes come from others: a table shows them as they are, and they steer no terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ssl3d.tables.formats.markdown import to_markdown
from ssl3d.tables.formats.terminal import show_comparisons, to_rich
from ssl3d.tables.tables import Tables
from tests.records import evaluated, results

HOSTILE = "[red]\x1b[2Jx[/red]\u202e"
SHOWN = r"[red]\x1b[2Jx[/red]\u202e"


def hostile() -> Tables:
    return Tables(results(evaluated(HOSTILE), evaluated("simclr", noise=1)))


def test_a_table_in_a_terminal_shows_a_hostile_name_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    tables, out = hostile(), io.StringIO()
    Console(file=out, width=400).print(to_rich(tables.leaderboard, tables.comparisons, 400))
    show_comparisons(tables.comparisons)
    for text in (out.getvalue(), capsys.readouterr().out):
        assert SHOWN in text
        assert all(line.isprintable() for line in text.splitlines())


def test_markdown_holds_no_character_that_steers_a_terminal() -> None:
    tables = hostile()
    text = to_markdown(tables.leaderboard, tables.comparisons)
    assert r"\x1b" in text
    assert all(line.isprintable() for line in text.splitlines())

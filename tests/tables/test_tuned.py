"""The sentence on tuning."""

from __future__ import annotations

import re

from ssl3d.recipe import PretrainRecipe
from ssl3d.tables.formats.captions import remarks
from ssl3d.tables.formats.latex import to_latex
from ssl3d.tables.formats.markdown import to_markdown
from ssl3d.tables.formats.terminal import to_svg
from ssl3d.tables.formats.tuned import tuned
from ssl3d.tables.tables import Tables
from tests.records import evaluated, results

NONE = "Methods with these settings on these data; none was tuned."


def test_untuned_methods_are_said_to_be_untuned_in_every_form() -> None:
    made = Tables(results(evaluated("byol"), evaluated("simclr", noise=1)))
    assert remarks(made.leaderboard).startswith(NONE)
    for form in (to_markdown, to_latex):
        assert NONE in form(made.leaderboard, made.comparisons)
    drawn = re.sub(r"<[^>]*>|&#160;", " ", to_svg(made.leaderboard, made.comparisons))
    assert NONE in " ".join(drawn.split())


def test_a_grid_is_said_of_the_methods_that_had_it() -> None:
    grid = {"pretrain": PretrainRecipe(tune_lr=(4.0, 0.25))}
    mixed = Tables(results(evaluated("byol", encoder_recipe=grid), evaluated("simclr", noise=1)))
    assert (
        "the learning rate of byol was chosen from 2 values (0.25, 4 times its recipe's), by a linear probe on inner "
        "folds of the training split; nothing else was tuned, and simclr not at all."
    ) in remarks(mixed.leaderboard)


def test_grids_of_several_runs_are_told_apart() -> None:
    assert tuned({}) == tuned({"byol": ""}) == NONE
    assert "of each method was chosen from 3 values (0.25, 1, 4 times" in tuned({"a": "0.25, 1, 4", "b": "0.25, 1, 4"})
    text = tuned({"a": "0.5, 1", "b": "0.25, 1, 4"})
    assert "of a was chosen from 2 values (0.5, 1 times its recipe's), and that of b was chosen from 3 values" in text


def test_a_dry_run_speaks_of_what_is_to_come() -> None:
    assert tuned({"byol": ""}, planned=True) == NONE.replace("was", "is")
    assert "of each method is chosen from 2 values" in tuned({"byol": "1, 4"}, planned=True)

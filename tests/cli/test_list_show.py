"""The commands list and show: what plugins there are, what each one is and takes, and the fields of a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ssl3d.cli import run
from ssl3d.registry import KINDS, WORDS, plugins

Capture = pytest.CaptureFixture[str]


def printed(capsys: Capture, *line: str) -> str:
    """Return what a command that succeeds prints."""
    assert run(list(line)) == 0
    return capsys.readouterr().out


def test_list_shows_every_plugin_with_a_line_and_its_distribution(capsys: Capture) -> None:
    out = printed(capsys, "list")
    for kind in KINDS:
        assert f"{WORDS[kind]}s" in out
        for name in plugins(kind):
            assert name in out
    assert "broken" not in out


@pytest.mark.parametrize("kind", KINDS)
def test_list_gives_json_of_one_kind(capsys: Capture, kind: Any) -> None:
    rows = json.loads(printed(capsys, "list", "--json", "--kind", kind))
    assert [row["name"] for row in rows] == list(plugins(kind))
    assert {(row["kind"], row["distribution"], row["problem"]) for row in rows} == {(kind, "ssl3d", None)}
    assert all(row["summary"] for row in rows)


@pytest.mark.parametrize(
    "name", [*plugins("methods"), *plugins("datasets"), *plugins("protocols"), "tiny", "r3d_18", "timm/resnet18"]
)
def test_show_prints_the_card(capsys: Capture, name: str) -> None:
    assert len(printed(capsys, "show", name).splitlines()) >= 2


def test_show_prints_settings_with_default_bounds_and_meaning(capsys: Capture) -> None:
    out = printed(capsys, "show", "moco")
    for text in ("method.moco", "queue_size", "65,536", "auto", "momentum", "0.999", "temperature"):
        assert text in out


def test_show_says_what_a_method_sets_and_needs(capsys: Capture) -> None:
    assert "pretrain.accumulation = plain" in printed(capsys, "show", "byolmed3d")
    assert "needs: labels" in printed(capsys, "show", "supervised")
    assert "needs: a backbone with tokens" in printed(capsys, "show", "mae")


def test_show_says_which_tasks_a_protocol_predicts_and_which_planes_a_data_set_has(capsys: Capture) -> None:
    assert "tasks: binary, multiclass, multilabel, ordinal, regression" in printed(capsys, "show", "linear")
    assert "planes: sagittal, coronal, axial" in printed(capsys, "show", "mrnet")
    assert "planes: no choice" in printed(capsys, "show", "folder")


def test_show_takes_a_file(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("from ssl3d_plugins.methods.byol import BYOL\nclass Mine(BYOL): ...\n")
    assert "BYOL" in printed(capsys, "show", f"{tmp_path}/m.py:Mine")


def test_show_prints_the_fields_of_a_section_or_of_the_whole_recipe(capsys: Capture) -> None:
    out = printed(capsys, "show", "pretrain")
    assert "pretrain.weight_decay_end" in out
    assert "data.folds" not in out
    out = printed(capsys, "show", "recipe")
    assert all(name in out for name in ("pretrain.epochs", "data.folds", "corpus", "evaluate.labels"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("boyl", "no plugin and no section of the recipe is called 'boyl'; did you mean 'byol'?"),
        ("pretrian", "no plugin and no section of the recipe is called 'pretrian'; did you mean 'pretrain'?"),
        ("none.py:Mine", "no such file: "),
    ],
)
def test_show_refuses_what_there_is_not(capsys: Capture, name: str, message: str) -> None:
    assert run(["show", name]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert captured.err.startswith(f"Error: {message}")

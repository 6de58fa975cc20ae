"""``ssl3d check``, ``list`` and ``show`` as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ssl3d.cli import run
from ssl3d.registry import KINDS, plugins

SIMSIAM = Path(__file__).parents[1] / "third_party" / "ssl3d_simsiam.py"


def test_a_file_needs_no_package_and_a_rule_that_fails_is_an_exit_code_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sound = SIMSIAM.read_text()
    (tmp_path / "mine.py").write_text(sound.replace("(features) for features", "(features[1:]) for features"))
    assert run(["check", "mine.py:SimSiam"]) == 1
    printed = capsys.readouterr().out
    assert "check_a_short_batch_is_finite: FAILED" in printed
    assert "rules fail: " in printed.splitlines()[-1]
    (folded,) = [line for line in printed.splitlines() if "not apply" in line]
    assert folded.startswith("7 rules do not apply: ")
    assert "it needs no labels: check_every_kind_of_task; it has no momentum encoder: check_momentum_" in folded


def test_a_failure_is_expected_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from ssl3d_plugins.methods.controls import Random\nclass Mine(Random):\n    card = None\n"
    )
    assert run(["check", "mine.py:Mine", "--expect", "check_card=not published yet"]) == 0
    assert "check_card: expected failure: not published yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["byoll"], "did you mean 'byol'"),
        (["tiny", "--set", "norm=batch"], "is a backbone, which is checked with its defaults; leave --set out"),
        (["knn", "--root", "x"], "is a protocol, which reads no files; leave --root and --plane out"),
        (["timm"], "timm"),
        (["byol/anything"], "'byol' has no variants; write 'byol'"),
        (["byol", "--set", "momentum"], "key=value"),
        (["byol", "--set", "momentum=2"], "less than or equal to 1"),
        (["knn", "--set", "temperature=-1"], "greater than 0"),
        (["byol", "--expect", "check_crad=typo"], "did you mean 'check_card'"),
        (["nowhere.py:Method"], "no such file"),
        (["ssl3d.recipe:EncoderRecipe"], "is not a plugin: the class EncoderRecipe is derived from"),
        ([str(SIMSIAM)], "ssl3d_simsiam.py names no class; did you mean"),
    ],
)
def test_what_cannot_be_checked_is_bad_input(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_every_kind_is_listed_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list"]) == 0
    printed = capsys.readouterr().out
    for kind in KINDS:
        assert all(f"\n{name} " in printed for name in plugins(kind))
    assert run(["list", "--kind", "protocols", "--json"]) == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} == set(plugins("protocols"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "moco",
            ["MoCo v2", "Chen et al.", "departs:", "--set method.moco.SETTING=VALUE", "queue_size", "auto"],
        ),
        ("mae", ["needs: a backbone with tokens"]),
        ("byolmed3d", ["recipe fields that it sets, unless you do:", "pretrain.optimizer = lars"]),
        ("tiny", ["smallest input (slices, rows, columns): (4, 16, 16)", "--set backbone.tiny.", "auto | group"]),
        ("demo", ["SYNTHETIC", "planes: sagittal, coronal, axial"]),
        ("finetune", ["tasks: binary", "--set protocol.finetune.SETTING=VALUE", "weights | sampling | none"]),
        ("pretrain", ["--set FIELD=VALUE", "pretrain.epochs", "100", "adamw | sgd | lars", "number | auto"]),
        ("recipe", ["methods", "view_size", "augment.crop", "pretrain.lr", "evaluate.protocols", "data.task"]),
        ("evaluate", ["evaluate.inner_folds"]),
    ],
)
def test_a_plugin_or_a_section_of_the_recipe_is_shown(
    name: str, said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["show", name]) == 0
    printed = capsys.readouterr().out
    for text in said:
        assert text in printed


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("boyl", "no plugin and no section of the recipe is called 'boyl'; did you mean 'byol'"),
        ("pretrian", "did you mean 'pretrain'"),
        ("ssl3d.no_such:Method", "cannot be imported"),
    ],
)
def test_what_cannot_be_shown_is_bad_input(name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", name]) == 2
    assert said in capsys.readouterr().err

"""Recipes: TOML, options and ``--set`` into one checked value; typos and bounds told in one sentence; hashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ssl3d.errors import RecipeError
from ssl3d.experiment import Experiment, known_fields, read_experiment
from ssl3d.recipe import PretrainRecipe, Recipe
from ssl3d.run.plan import merge


def refused(*sets: str, file: Path | None = None, options: dict[str, Any] | None = None) -> str:
    """Return the one-line message with which settings are refused."""
    with pytest.raises(RecipeError) as caught:
        read_experiment(file, options, sets)
    message = str(caught.value)
    assert "\n" not in message
    return message


def toml(folder: Path, text: str) -> Path:
    file = folder / "recipe.toml"
    file.write_text(text)
    return file


def test_later_settings_win_over_options_over_the_file(tmp_path: Path) -> None:
    file = toml(tmp_path, 'seeds = [1]\n[pretrain]\nepochs = 3\nlr = 0.5\nbatch_size = 8\n[data]\nname = "mrnet"\n')
    made = read_experiment(
        file, {"pretrain.lr": 0.25, "pretrain.batch_size": 4, "seeds": None}, ["pretrain.batch_size=6"]
    )
    assert (made.seeds, made.data.name) == ((1,), "mrnet")
    assert (made.pretrain.epochs, made.pretrain.lr, made.pretrain.batch_size) == (3, 0.25, 6)


def test_a_field_is_found_by_its_own_name_where_one_section_has_it() -> None:
    made = read_experiment(sets=["lr=0.125", "task=acl", "view_size=[4,16,16]", "evaluate.batch_size=2"])
    assert (made.pretrain.lr, made.data.task, made.view_size, made.evaluate.batch_size) == (
        0.125,
        ("acl",),
        (4, 16, 16),
        2,
    )


def test_tasks_and_planes_are_one_or_several_in_every_spelling(tmp_path: Path) -> None:
    file = toml(tmp_path, '[data]\ntask = "acl, meniscus"\nplane = ["axial", "coronal"]\n')
    for made in (
        read_experiment(file),
        read_experiment(None, {"data.task": ("acl", "meniscus"), "data.plane": "axial,coronal"}),
        read_experiment(sets=["task=acl,meniscus", 'plane=["axial","coronal"]']),
    ):
        assert (made.data.task, made.data.plane) == (("acl", "meniscus"), ("axial", "coronal"))
    assert "data.task" in refused("task=[]")
    assert "data.task" in refused("task=acl,,abnormal")


def test_a_run_may_grow_by_what_its_cells_need_not_share() -> None:
    grown = {"methods": ("moco",), "seeds": (5,), "data.task": "meniscus", "data.plane": "all"}
    assert read_experiment(None, grown).base() == Experiment().base()
    assert read_experiment(None, {"data.folds": 3}).base() != Experiment().base()


def test_settings_of_a_method_and_backbone_are_taken_by_name() -> None:
    made = read_experiment(
        sets=["method.byol.momentum=0.9", "backbone.tiny.norm=batch", "backbone.timm/resnet18.norm=batch"]
    )
    assert made.method == {"byol": {"momentum": 0.9}}
    assert made.backbone == {"tiny": {"norm": "batch"}, "timm/resnet18": {"norm": "batch"}}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("pretrain.lrr=1", "unknown field 'pretrain.lrr'; did you mean 'pretrain.lr'?"),
        ("epoch=1", "unknown field 'epoch'; did you mean 'epochs'?"),
        ("pretran.epochs=1", "unknown field 'pretran.epochs'; did you mean 'pretrain.epochs'?"),
        ("pretrain=1", "unknown field 'pretrain'"),
        ("pretrain.epochs.more=1", "unknown field 'pretrain.epochs.more'"),
        ("method.byol=1", "unknown field 'method.byol'"),
        ("batch_size=4", "field 'batch_size' could be pretrain.batch_size or evaluate.batch_size; write one of them"),
        ("epochs", "--set 'epochs' needs the form key=value"),
        ("", "--set '' needs the form key=value"),
        ("=3", "unknown field ''"),
        ("epochs=0", "pretrain.epochs = 0: input should be greater than or equal to 1"),
        ("epochs=many", "pretrain.epochs = 'many': input should be a valid integer"),
        ("epochs=1.5", "pretrain.epochs = 1.5: input should be a valid integer"),
        ("lr=inf", "pretrain.lr = inf: input should be a finite number"),
        ("lr=nan", "pretrain.lr = nan: input should be a finite number"),
        ("lr=-1", "pretrain.lr = -1: input should be greater than 0"),
        ("optimizer=adam", "pretrain.optimizer = 'adam': input should be 'adamw', 'sgd' or 'lars'"),
        ("crop=[0.9,0.1]", "augment: crop = (0.9, 0.1): the first must not be larger than the second"),
        ("flip=[0,0,2]", "augment.flip.2 = 2: input should be less than or equal to 1"),
        ("view_size=[4,16]", "view_size"),
        ("seeds=[-1]", "seeds.0 = -1: input should be greater than or equal to 0"),
        ("seeds=[4294967296]", "seeds.0 = 4294967296: input should be less than 4294967296"),
        ("seeds=[]", "seeds = []: "),
        ("protocols=[]", "evaluate.protocols = []: "),
        ('protocols=["linear","liner"]', "evaluate.protocols.1 = 'liner': input should be 'linear'"),
        ('protocols=["linear","linear"]', "evaluate: protocols names 'linear' twice"),
    ],
)  # fmt: skip
def test_a_faulty_setting_is_told_in_one_sentence(setting: str, message: str) -> None:
    assert refused(setting).startswith(message)


def test_a_micro_batch_larger_than_the_batch_is_refused_with_both_numbers() -> None:
    message = refused("micro_batch=9", "pretrain.batch_size=8")
    assert message.startswith("pretrain: micro_batch = 9 is larger than batch_size = 8")
    assert read_experiment(sets=["micro_batch=8", "pretrain.batch_size=8"]).pretrain.micro_batch == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = ", "not valid TOML"),
        ("[pretrain]\nepochs = 1\nepochs = 2", "not valid TOML"),
        ("[pretrain]\nepohcs = 1", "unknown field 'pretrain.epohcs'; did you mean 'epochs'?"),
        ("[pretrian]\nepochs = 1", "unknown field 'pretrian'; did you mean 'pretrain'?"),
        ("pretrain = 3", "pretrain = 3: input should be a valid dictionary"),
        ("methods = 'byol'", "methods = 'byol': input should be a list, as in [1, 2]"),
        ("[[pretrain]]\nepochs = 1", "pretrain = [{'epochs': 1}]: "),
    ],
)
def test_a_faulty_file_is_told_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(file=toml(tmp_path, text))


def test_a_recipe_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path / 'none.toml'} cannot be read (No such file" in refused(file=tmp_path / "none.toml")
    assert f"{tmp_path} cannot be read (Is a directory)" in refused(file=tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "binary.toml is not valid TOML" in refused(file=tmp_path / "binary.toml")


def test_an_option_into_a_section_that_the_file_made_a_value_is_refused(tmp_path: Path) -> None:
    assert "'data' is a value, not a section" in refused(
        file=toml(tmp_path, "data = 'demo'"), options={"data.task": "acl"}
    )


def test_what_was_not_set_is_not_asked_for() -> None:
    assert read_experiment(sets=["epochs=100"]).asked() == {"pretrain": {"epochs": 100}}
    assert Experiment().asked() == {}


OTHER: dict[str, Any] = {
    "data.name": "mrnet", "data.task": "acl", "data.plane": "axial", "data.folds": 3, "data.fold": 1,
    "view_size": [4, 16, 16],
    "augment.crop": [0.5, 1.0], "augment.aspect": [0.5, 2.0], "augment.depth": [0.5, 1.0],
    "augment.flip": [0.5, 0.0, 0.5], "augment.flip_left_right": True, "augment.rotate": 5.0,
    "augment.brightness": 0.1, "augment.contrast": 0.1, "augment.gamma": 0.1, "augment.blur": 0.1,
    "augment.blur_sigma": [0.5, 1.0], "augment.noise": 0.2, "augment.slice_dropout": 0.1,
    "pretrain.epochs": 7, "pretrain.batch_size": 32, "pretrain.micro_batch": 2, "pretrain.accumulation": "plain",
    "pretrain.optimizer": "sgd", "pretrain.lr": 0.1, "pretrain.lr_scaling": "none", "pretrain.momentum": 0.5,
    "pretrain.weight_decay": 0.5, "pretrain.warmup_epochs": 1.0, "pretrain.precision": "bf16-mixed",
    "pretrain.keep": 2, "pretrain.channels_last": True, "pretrain.compile": "auto",
    "evaluate.labels": [0.1, 1.0], "evaluate.imbalance": [0.2], "evaluate.draws": 2,
    "evaluate.finetune_balance": "sampling", "evaluate.finetune_crops": 2,
    "evaluate.protocols": ["knn"], "evaluate.inner_folds": 3, "evaluate.batch_size": 3, "evaluate.finetune_epochs": 3,
    "evaluate.finetune_lr": 0.1, "evaluate.finetune_batch_size": 4,
    "seed": 1, "method": "simclr", "backbone": "r3d_18", "method_config.momentum": 0.5, "backbone_config.norm": "batch",
    "sources.file": "f00d",
}  # fmt: skip


def nested(name: str, value: Any) -> dict[str, Any]:
    head, _, rest = name.partition(".")
    return {head: nested(rest, value) if rest else value}


@pytest.mark.parametrize("name", OTHER)
def test_the_hash_of_a_recipe_changes_with_every_field(name: str) -> None:
    needs = {"data.fold": {"data": {"folds": 2}}}.get(name, {})
    assert Recipe.checked(merge(needs, nested(name, OTHER[name]))).hash() != Recipe.checked(needs).hash()


def test_every_field_that_can_be_set_is_in_the_test_above() -> None:
    assert set(known_fields()) - {"methods", "backbones", "seeds", "baselines"} <= set(OTHER)


def test_the_hash_is_that_of_the_values_not_of_their_spelling() -> None:
    one = Recipe.checked({"pretrain": {"lr": 1e-1, "epochs": 3, "weight_decay": 0}, "seed": 2})
    other = Recipe.checked({"seed": 2, "pretrain": {"weight_decay": 0.0, "epochs": 3, "lr": 0.1}})
    assert (one, one.canonical(), one.hash()) == (other, other.canonical(), other.hash())


def test_a_recipe_goes_through_json_unchanged() -> None:
    recipe = Recipe.checked(nested("augment.crop", [0.25, 0.75]))
    again = Recipe.model_validate(json.loads(recipe.canonical()))
    assert (again, again.hash()) == (recipe, recipe.hash())


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().seed = 3  # type: ignore[misc]  # that is the point
    assert PretrainRecipe().micro_batch is None

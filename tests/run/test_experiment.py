"""Experiments: TOML, options and ``--set`` into one checked value; typos and bounds refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ssl3d.errors import RecipeError
from ssl3d.experiment import Experiment, known_fields, read_experiment
from ssl3d.recipe import CorpusPart, EncoderRecipe, PretrainRecipe
from ssl3d.results.keys import encoder_key


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
    assert (made.seeds, made.data.name) == ((1,), ("mrnet",))
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


def test_a_run_may_grow_by_what_its_calls_need_not_share() -> None:
    more: dict[str, Any] = {
        "methods": ("moco",),
        "seeds": (5,),
        "data.task": "meniscus",
        "data.plane": "all",
        "evaluate.protocols": "knn",
    }
    more |= {"evaluate.labels": (0.1,), "method.moco.queue_size": 8, "protocol.knn.neighbours": [3]}
    assert read_experiment(None, more).base() == Experiment().base()
    for name, value in (("data.folds", 3), ("data.name", "mrnet"), ("corpus", "mrnet"), ("evaluate.draws", 2)):
        assert read_experiment(None, {name: value}).base() != Experiment().base()


def test_settings_of_a_method_and_backbone_are_taken_by_name() -> None:
    made = read_experiment(
        sets=["method.byol.momentum=0.9", "backbone.tiny.norm=batch", "backbone.timm/resnet18.norm=batch"]
    )
    assert made.method == {"byol": {"momentum": 0.9}}
    assert made.backbone == {"tiny": {"norm": "batch"}, "timm/resnet18": {"norm": "batch"}}
    assert read_experiment(sets=["protocol.finetune.epochs=3"]).protocol == {"finetune": {"epochs": 3}}


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
        ("epochs", "--set 'epochs' needs the form KEY=VALUE"),
        ("", "--set '' needs the form KEY=VALUE"),
        ("=3", "--set '=3' needs the form KEY=VALUE"),
        ("epochs=0", "pretrain.epochs = 0: input should be greater than or equal to 1"),
        ("epochs=many", "pretrain.epochs = 'many': input should be a number, not text"),
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
        ("corpus=[]", "corpus = []: "),
        ("weight_decay_end=-1", "pretrain.weight_decay_end = -1: input should be greater than or equal to 0"),
    ],
)  # fmt: skip
def test_a_faulty_setting_is_refused_in_one_sentence(setting: str, message: str) -> None:
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
def test_a_faulty_file_is_refused_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
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


def test_data_sets_and_corpora_are_one_or_several_in_every_spelling(tmp_path: Path) -> None:
    file = toml(tmp_path, 'corpus = "mrnet,folder"\n[data]\nname = ["demo", "mrnet"]\n')
    for made in (
        read_experiment(file),
        read_experiment(None, {"corpus": ("mrnet", "folder"), "data.name": "demo,mrnet"}),
        read_experiment(sets=["corpus=mrnet,folder", 'data.name=["demo","mrnet"]']),
    ):
        assert (made.corpus, made.data.name) == (("mrnet", "folder"), ("demo", "mrnet"))


@pytest.mark.parametrize("name", [name for name in known_fields() if name.startswith("pretrain.")])
def test_every_setting_of_pretraining_decides_an_encoder(name: str) -> None:
    field = name.removeprefix("pretrain.")
    plain = EncoderRecipe(pretrain=PretrainRecipe())
    other = EncoderRecipe(pretrain=PretrainRecipe.checked({field: OTHER[field]}))
    assert key_of(plain) != key_of(other)


def test_names_of_plugins_and_data_do_not_decide_an_encoder() -> None:
    plain = EncoderRecipe(corpus=(CorpusPart(data="demo"),))
    same = EncoderRecipe(method="a.py:BYOL", backbone="ssl3d_plugins:Tiny", corpus=(CorpusPart(data="mrnet", fold=1),))
    assert key_of(plain) == key_of(same)
    assert key_of(plain) != key_of(EncoderRecipe(seed=1))


def key_of(recipe: EncoderRecipe) -> str:
    return encoder_key(recipe, corpus="f00d", sources={"method": "1", "backbone": "2"}, weights=None)


OTHER: dict[str, Any] = {
    "epochs": 7, "batch_size": 32, "micro_batch": 2, "keep": 2, "accumulation": "plain", "optimizer": "sgd", "lr": 0.1,
    "tune_lr": [0.5, 2.0],
    "lr_scaling": "none", "momentum": 0.5, "weight_decay": 0.5, "weight_decay_end": 0.1, "clip_gradient": 1.0,
    "warmup_epochs": 1.0, "precision": "bf16-mixed", "channels_last": True, "compile": "auto",
}  # fmt: skip

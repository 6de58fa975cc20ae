"""Plans: experiments into encoders and evaluations; which setting wins; what does not fit together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl3d.errors import PluginError, RecipeError
from ssl3d.experiment import read_experiment
from ssl3d.recipe import CorpusPart, EncoderRecipe, EvaluationRecipe
from ssl3d.run.options import Options
from ssl3d.run.planning.datasets import open_dataset
from ssl3d.run.planning.plan import Plan, make_plan
from ssl3d.run.planning.settings import merge
from ssl3d.train.build import build_method
from tests.runs import write_knees


def plan(*sets: str, **options: Any) -> Plan:
    return make_plan(read_experiment(None, {"seeds": (0,), **options}, sets))


def recipes(*sets: str, **options: Any) -> dict[str, EncoderRecipe]:
    """Recipes of encoders by method, of one seed and backbone."""
    return {request.recipe.method: request.recipe for request in plan(*sets, **options).requests}


def evaluations(made: Plan) -> list[EvaluationRecipe]:
    return [recipe for request in made.requests for recipe in request.evaluations]


def write_folder(root: Path, target: str, values: tuple[str, str]) -> dict[str, Path]:
    """Write two volumes with a table of one target; return the root by name."""
    rows = [f"{name}.npy,{value},{split}" for name, value, split in zip("ab", values, ("train", "test"), strict=True)]
    (root / "labels.csv").write_text("\n".join([f"path,{target},split", *rows, ""]))
    for name in "ab":
        np.save(root / f"{name}.npy", np.arange(4 * 16 * 17, dtype=np.float32).reshape(4, 16, 17))
    return {"folder": root}


def refused(*sets: str, roots: Mapping[str, Path] | None = None, **options: Any) -> str:
    with pytest.raises((RecipeError, PluginError)) as caught:
        make_plan(read_experiment(None, options, sets), Options(roots=roots or {}))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is asked for


def test_encoders_are_methods_times_backbones_times_seeds_each_once() -> None:
    made = plan(methods=("byol", "simclr", "byol"), backbones=("tiny", "r3d_18"), seeds=(0, 1, 1), controls="none")
    keys = [(request.recipe.method, request.recipe.backbone, request.recipe.seed) for request in made.requests]
    assert sorted(keys) == sorted((m, b, s) for m in ("byol", "simclr") for b in ("tiny", "r3d_18") for s in (0, 1))
    assert {request.recipe.corpus for request in made.requests} == {(CorpusPart(data="demo", plane="sagittal"),)}


def test_an_encoder_is_evaluated_on_every_task_with_every_protocol() -> None:
    made = plan(methods=("byol",), controls="none", **{"data.task": "all", "evaluate.protocols": "knn,linear,knn"})
    (request,) = made.requests
    found = [(recipe.task, recipe.protocol) for recipe in request.evaluations]
    assert sorted(found) == sorted((t, p) for t in ("acl", "meniscus", "abnormal") for p in ("knn", "linear"))
    assert {recipe.view_size for recipe in request.evaluations} == {request.recipe.view_size}


def test_planes_and_folds_have_encoders_of_their_own_and_tasks_do_not() -> None:
    made = plan(methods=("byol",), controls="none", **{"data.task": "all", "data.plane": "all", "data.folds": 2})
    planes = ("sagittal", "coronal", "axial")
    parts = [request.recipe.corpus for request in made.requests]
    assert [(part.plane, part.fold) for (part,) in parts] == [(p, fold) for p in planes for fold in range(2)]
    assert all(request.fold == request.recipe.corpus[0].fold for request in made.requests)
    for request in made.requests:
        assert {(recipe.plane, recipe.fold) for recipe in request.evaluations} == {
            (request.recipe.corpus[0].plane, request.fold)
        }
        assert len(request.evaluations) == 3 * 2


def test_an_untrained_encoder_has_no_corpus_and_serves_every_plane_and_fold_at_once() -> None:
    made = plan("view_size=[4,16,16]", methods=("random",), controls="none", **{"data.plane": "all", "data.folds": 2})
    (request,) = made.requests
    recipe = request.recipe
    assert (recipe.corpus, recipe.augment, recipe.pretrain, recipe.task) == ((), None, None, None)
    assert len(request.evaluations) == 3 * 2 * 2


def test_a_corpus_serves_every_data_set_that_is_evaluated(tmp_path: Path) -> None:
    root = {"mrnet": write_knees(tmp_path / "knees")}
    fields = {
        "methods": ("byol",),
        "controls": "none",
        "corpus": "demo,mrnet",
        "data.name": "demo,mrnet",
        "seeds": (0,),
    }
    made = make_plan(read_experiment(None, fields), Options(roots=root))
    (request,) = made.requests
    assert [part.data for part in request.recipe.corpus] == ["demo", "mrnet"]
    assert {recipe.data for recipe in request.evaluations} == {"demo", "mrnet"}
    assert made.corpora == ()


def test_a_corpus_of_another_data_set_has_its_own_split_whatever_the_folds(tmp_path: Path) -> None:
    root = {"mrnet": write_knees(tmp_path / "knees")}
    fields = {
        "methods": ("byol",),
        "controls": "none",
        "corpus": "mrnet",
        "data.folds": 2,
        "data.plane": "axial",
        "seeds": (0,),
    }
    made = make_plan(read_experiment(None, fields), Options(roots=root))
    assert [(one.data, one.plane, one.tasks) for one in made.corpora] == [("mrnet", "axial", ())]
    assert [(request.fold, request.recipe.corpus[0].folds) for request in made.requests] == [(0, None), (1, None)]
    assert made.requests[0].recipe == made.requests[1].recipe
    assert made.requests[0].recipe.view_size == open_dataset("mrnet", root["mrnet"]).view_size


def test_names_of_tasks_and_planes_count_for_the_data_sets_that_have_them(tmp_path: Path) -> None:
    options = Options(roots=write_folder(tmp_path, "lesion", ("0", "1")))
    names = {"data.name": "demo,folder", "methods": ("random",)}

    def found(**fields: str) -> list[tuple[str, str | None, list[str]]]:
        made = make_plan(read_experiment(None, {**names, **fields}), options)
        return [(one.data, one.plane, [task.name for task in one.tasks]) for one in made.evaluated]

    assert found() == [("demo", "sagittal", ["acl"]), ("folder", None, ["lesion"])]
    more = {"data.task": "meniscus,lesion", "data.plane": "axial,coronal"}
    assert found(**more) == [
        ("demo", "axial", ["meniscus"]), ("demo", "coronal", ["meniscus"]), ("folder", None, ["lesion"]),
    ]  # fmt: skip
    assert len(found(**{"data.task": "all", "data.plane": "all"})) == 4
    message = refused(roots=options.roots, **names, **{"data.task": "acl"})
    assert message == "data set 'folder' has none of the tasks acl; it has lesion"
    message = refused(roots=options.roots, **names, **{"data.task": "acl,lesoin"})
    assert message == "none of the data sets demo, folder has a task 'lesoin'; did you mean 'lesion'?"


def test_a_method_that_needs_labels_has_an_encoder_for_each_task() -> None:
    made = plan(methods=("supervised",), controls="none", **{"data.task": "acl,meniscus"})
    assert [request.recipe.task for request in made.requests] == ["acl", "meniscus"]
    assert [{recipe.task for recipe in request.evaluations} for request in made.requests] == [{"acl"}, {"meniscus"}]


def test_a_method_that_needs_labels_is_refused_where_its_corpus_has_none(tmp_path: Path) -> None:
    roots = write_folder(tmp_path, "lesion", ("0", "1"))
    fields = {"methods": ("supervised",), "controls": "none", "corpus": "folder"}
    message = refused(roots=roots, **fields)
    assert message.startswith("method 'supervised' needs labels of 'acl', and the corpus (folder) has none")


def test_a_control_with_a_network_of_its_own_stands_in_the_table_once() -> None:
    made = plan(methods=("voxels", "random"), backbones=("tiny", "r3d_18"), controls="none")
    found = sorted((request.recipe.method, request.recipe.backbone) for request in made.requests)
    assert found == [("random", "r3d_18"), ("random", "tiny"), ("voxels", "voxel_grid")]
    readouts = {request.recipe.backbone: request.evaluations[0].readouts for request in made.requests}
    assert readouts == {"tiny": ("last", "multi"), "r3d_18": ("last", "multi"), "voxel_grid": ("last",)}


def test_a_read_out_that_controls_lack_leaves_them_in_the_table() -> None:
    made = plan(methods=("random",), controls="voxels,statistics", **{"evaluate.readouts": "multi"})
    found = {request.recipe.method: request.evaluations[0].readouts for request in made.requests}
    assert found == {"random": ("multi",), "voxels": ("last",), "statistics": ("last",)}


@pytest.mark.parametrize(
    ("readouts", "backbones", "message"),
    [
        ("mutli", "tiny", "no backbone of this run has a read-out 'mutli'; did you mean 'multi'?; correct --readout"),
        ("max", "tiny,voxel_grid", "backbone 'voxel_grid' has none of the read-outs max, only last; add one"),
    ],
)
def test_a_read_out_that_does_not_exist_is_refused(readouts: str, backbones: str, message: str) -> None:
    fields: dict[str, Any] = {"methods": ("random",), "controls": "none", "evaluate.readouts": readouts}
    assert refused(**fields, backbones=backbones.split(",")).startswith(message)


def test_one_sentence_names_the_controls_that_are_missing_and_why() -> None:
    generated, missing = plan(methods=("byol",)).notes
    assert "generated, synthetic volumes" in generated
    assert missing == "Controls that the table lacks: imagenet, kinetics (there are no such weights of tiny)."
    missing = plan(methods=("byol", "random"), controls="supervised", backbones=("r3d_18",)).notes[1]
    assert missing.endswith("imagenet, kinetics, statistics, voxels (left out by --controls).")


def test_controls_are_those_that_are_possible() -> None:
    trained = {"byol", "supervised"}
    made = recipes(methods=("byol",), backbones=("r3d_18",))
    assert set(made) == {*trained, "random", "kinetics", "voxels", "statistics"}
    assert {name for name, recipe in made.items() if recipe.pretrain} == trained
    assert set(recipes(methods=("byol", "random"), controls="none")) == {"byol", "random"}
    assert set(recipes(methods=("byol",), controls="random,kinetics")) == {"byol", "random"}  # tiny has no such weights


def test_several_seeds_are_the_default() -> None:
    made = make_plan(read_experiment(None, {"methods": ("byol",)}))
    seeds = {
        name: [one.recipe.seed for one in made.requests if one.recipe.method == name] for name in ("byol", "voxels")
    }
    assert seeds == {"byol": [0, 1, 2], "voxels": [0, 1, 2]}


def test_untrained_controls_have_more_seeds_where_that_costs_no_training() -> None:
    fields: dict[str, Any] = {"methods": ("byol",), "seeds": (1, 5), "evaluate.protocols": "linear,finetune"}
    made = make_plan(read_experiment(None, fields))
    found = {
        one.recipe.seed: {evaluation.protocol for evaluation in one.evaluations}
        for one in made.requests
        if one.recipe.method == "random"
    }
    assert found == {**{seed: {"linear", "finetune"} for seed in (1, 5)}, **{seed: {"linear"} for seed in (0, 2, 3, 4)}}
    asked = make_plan(read_experiment(None, {**fields, "methods": ("byol", "random")}))
    assert [one.recipe.seed for one in asked.requests if one.recipe.method == "random"] == [1, 5]


# Which setting wins


def test_a_preset_wins_over_defaults_and_loses_to_what_is_asked_for() -> None:
    preset = recipes(methods=("byolmed3d",))["byolmed3d"]
    assert preset.pretrain is not None
    assert (preset.pretrain.accumulation, preset.pretrain.optimizer, preset.pretrain.epochs) == ("plain", "lars", 100)
    assert (preset.view_size, preset.backbone_config["norm"]) == ((16, 224, 224), "batch")
    asked = recipes(
        "epochs=5", "optimizer=adamw", "view_size=[12,40,40]", "backbone.tiny.norm=group", methods=("byolmed3d",)
    )["byolmed3d"]
    assert asked.pretrain is not None
    assert (asked.pretrain.epochs, asked.pretrain.optimizer, asked.pretrain.accumulation) == (5, "adamw", "plain")
    assert (asked.view_size, asked.backbone_config["norm"]) == ((12, 40, 40), "group")


def test_settings_reach_their_own_method_only() -> None:
    made = recipes("method.byol.momentum=0.5", methods=("byol", "moco"))
    assert made["byol"].method_config["momentum"] == 0.5
    assert made["moco"].method_config["momentum"] == "auto"


def test_a_recipe_holds_every_setting_of_its_plugins() -> None:
    """So that a default which changes in the code is another key, and a default written out is not."""
    made = recipes(methods=("byol",))["byol"]
    assert made.method_config == {"hidden_dim": 4096, "projection_dim": 256, "momentum": "auto"}
    written_out = recipes("method.byol.hidden_dim=4096", "backbone.tiny.norm=auto", methods=("byol",))["byol"]
    assert written_out.canonical() == made.canonical()
    assert build_method(made).config.model_dump() == made.method_config
    (first, *_) = evaluations(plan("protocol.linear.iterations=7", methods=("byol",)))
    assert first.protocol_config["iterations"] == 7
    assert "strengths" in first.protocol_config


def test_augmentation_is_part_of_evaluations_that_train_the_encoder() -> None:
    made = plan("augment.blur=0.25", methods=("random",), **{"evaluate.protocols": "linear,finetune"})
    found = {recipe.protocol: recipe.augment for recipe in evaluations(made)}
    assert found["linear"] is None
    assert found["finetune"] is not None
    assert found["finetune"].blur == 0.25


def test_the_view_size_is_the_users_or_the_presets_or_the_weights_or_the_data_sets() -> None:
    made = recipes(methods=("byol", "kinetics"), backbones=("r3d_18",))
    assert made["byol"].view_size == open_dataset("demo").view_size
    assert made["kinetics"].view_size == (16, 112, 112)
    assert recipes("view_size=[9,32,33]", backbones=("r3d_18",))["kinetics"].view_size == (9, 32, 33)


def test_a_preset_of_a_section_keeps_what_it_does_not_name() -> None:
    under, over = {"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}, "c": 4}
    assert merge(under, over) == {"a": {"x": 1, "y": 3}, "b": 1, "c": 4}
    assert under == {"a": {"x": 1, "y": 2}, "b": 1}


def test_settings_of_a_plugin_in_a_file_are_set_by_its_whole_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from ssl3d_plugins.methods.simclr import SimCLR\nclass Mine(SimCLR):\n    pass\n")
    name = f"{file}:Mine"
    (only,) = recipes(f"method.{name}.temperature=0.5", methods=(name,), controls="none").values()
    assert only.method_config["temperature"] == 0.5


def test_settings_of_what_is_not_run_are_a_note() -> None:
    made = plan(**{"methods": ["byol"], "method.moco.queue_size": 8, "protocol.finetune.epochs": 8})
    assert [note for note in made.notes if "no effect" in note] == [
        "settings of method 'moco' have no effect: it is not part of this run",
        "settings of protocol 'finetune' have no effect: it is not part of this run",
    ]


# What does not fit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ("boyl",)}, "unknown method 'boyl'; did you mean 'byol'?"),
        ({"backbones": ("tinny",)}, "unknown backbone 'tinny'; did you mean 'tiny'?"),
        ({"data.name": "dmeo"}, "unknown data set 'dmeo'; did you mean 'demo'?"),
        ({"corpus": "dmeo"}, "unknown data set 'dmeo'; did you mean 'demo'?"),
        ({"evaluate.protocols": "liner"}, "unknown protocol 'liner'; did you mean 'linear'?"),
        ({"data.task": "acll"}, "data set 'demo' has no task 'acll'; did you mean 'acl'?"),
        ({"data.plane": "saggital"}, "data set 'demo' has no plane 'saggital'; did you mean 'sagittal'?"),
        ({"data.plane": "x"}, "data set 'demo' has no plane 'x'; known: axial, coronal, sagittal"),
        ({"data.name": "folder", "data.plane": "x"}, "data set 'folder' has no plane 'x'; it has no planes: leave"),
        ({"data.task": "acl,menisc"}, "data set 'demo' has no task 'menisc'; did you mean 'meniscus'?"),
        ({"data.task": "all,acl"}, "data set 'demo' has no task 'all'"),
        ({"data.name": "folder", "data.plane": "all"}, "data set 'folder' has no plane 'all'; it has no planes"),
        ({"method.byol.momentumm": 1}, "unknown field 'method.byol.momentumm'; did you mean 'momentum'?"),
        ({"method.byol.momentum": 2}, "method.byol.momentum = 2: input should be less than or equal to 1"),
        ({"method.boyl.momentum": 1}, "settings for unknown method 'boyl'; did you mean 'byol'?"),
        ({"backbone.tinny.norm": "batch"}, "settings for unknown backbone 'tinny'; did you mean 'tiny'?"),
        ({"backbone.tiny.norm": "bach"}, "backbone.tiny.norm = 'bach': input should be 'auto', 'group', 'batch' or"),
        ({"protocol.lineer.iterations": 1}, "settings for unknown protocol 'lineer'; did you mean 'linear'?"),
        ({"protocol.linear.iterations": 0}, "protocol.linear.iterations = 0: input should be greater than or equal"),
        ({"methods": ("kinetics",)}, "method 'kinetics' starts from kinetics400 weights, and backbone 'tiny' has none"),
        ({"methods": ("mae",)}, "method 'mae' needs a backbone with tokens, and 'tiny' has none; choose a vision"),
        ({"backbones": ("mvit_base_16x4",), "view_size": (1, 8, 8)}, "view_size = (1, 8, 8) is smaller than backbone"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(options: dict[str, Any], message: str) -> None:
    assert refused(**options).startswith(message)


def test_a_task_that_a_protocol_does_not_predict_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.py").write_text(
        "from ssl3d.evaluate.protocols.linear import Linear\nclass Binary(Linear):\n    kinds = frozenset({'binary'})\n"
    )
    roots = write_folder(tmp_path, "age:regression", ("1.5", "2.5"))
    fields = {"data.name": "folder", "methods": ("random",), "evaluate.protocols": f"{tmp_path}/binary.py:Binary"}
    message = refused(roots=roots, **fields)
    assert "does not predict regression tasks, and 'age' of 'folder' is one (it predicts binary)" in message


def test_roots_belong_to_data_sets_of_the_run(tmp_path: Path) -> None:
    assert refused(roots={"mrnett": tmp_path}, **{"data.name": "mrnet"}).startswith(
        f"--root mrnett={tmp_path}: no data set of this run has this name; did you mean 'mrnet'?"
    )
    message = refused(roots={"": tmp_path}, **{"data.name": "mrnet,demo"})
    assert message == f"--root {tmp_path} does not say which data set it is of (mrnet, demo); write --root NAME=PATH"


def test_an_unfinished_method_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("from ssl3d.method import Method\nclass Bad(Method):\n    card = None\n")
    assert "lacks loss()" in refused(methods=(f"{tmp_path}/bad.py:Bad",))

"""Plans: experiments into cells; what wins over what; what does not fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ssl3d.errors import PluginError, RecipeError
from ssl3d.experiment import read_experiment
from ssl3d.recipe import Recipe
from ssl3d.run.plan import Plan, make_plan, merge, open_dataset
from ssl3d.train.build import build_method


def plan(*sets: str, root: Path | None = None, **options: Any) -> Plan:
    return make_plan(read_experiment(None, options, sets), root)


def recipes(*sets: str, **options: Any) -> dict[str, Recipe]:
    """Recipes by method, of one seed and backbone."""
    return {cell.recipe.method: cell.recipe for cell in plan(*sets, **options).cells}


def refused(*sets: str, **options: Any) -> str:
    with pytest.raises((RecipeError, PluginError)) as caught:
        plan(*sets, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_cells_are_methods_times_backbones_times_seeds_each_once() -> None:
    made = plan(methods=("byol", "simclr", "byol"), backbones=("tiny", "r3d_18"), seeds=(0, 1, 1), baselines=False)
    keys = [(cell.recipe.method, cell.recipe.backbone, cell.recipe.seed) for cell in made.cells]
    assert sorted(keys) == sorted((m, b, s) for m in ("byol", "simclr") for b in ("tiny", "r3d_18") for s in (0, 1))
    assert len({cell.name for cell in made.cells}) == 8


def test_cells_are_spread_over_tasks_planes_and_folds() -> None:
    made = plan(methods=("byol",), baselines=False, **{"data.task": "all", "data.plane": "all", "data.folds": 2})
    found = [(c.recipe.data.task, c.recipe.data.plane, c.recipe.data.fold) for c in made.cells]
    tasks, planes = ("acl", "meniscus", "abnormal"), ("sagittal", "coronal", "axial")
    assert set(found) == {(task, plane, fold) for task in tasks for plane in planes for fold in range(2)}
    assert len({cell.name for cell in made.cells}) == len(made.cells) == 18
    assert {cell.recipe.data.folds for cell in made.cells} == {2}
    assert all(made.dataset_of(cell).plane == cell.recipe.data.plane for cell in made.cells)


def test_tasks_of_one_plane_and_fold_share_their_pretraining_and_nothing_else_does() -> None:
    settings = {"data.task": "all", "data.plane": "axial,coronal", "data.folds": 2}
    cells = plan(methods=("byol",), baselines=False, **settings).cells
    shared = {(c.recipe.data.plane, c.recipe.data.fold, c.recipe.pretraining_hash()) for c in cells}
    assert len(shared) == len({key for *_, key in shared}) == 4
    for first in range(0, len(cells), 3):  # one after the other, so that the encoder is at hand
        assert len({cell.recipe.pretraining_hash() for cell in cells[first : first + 3]}) == 1


def test_one_task_asked_for_twice_is_one_cell() -> None:
    assert (
        len(plan(methods=("byol",), baselines=False, **{"data.task": "acl,acl", "data.plane": "axial,axial"}).cells)
        == 1
    )


def test_baselines_join_where_the_backbone_can_stand_for_them() -> None:
    assert set(recipes(methods=("byol",))) == {"byol", "random"}
    assert set(recipes(methods=("byol",), backbones=("r3d_18",))) == {"byol", "random", "kinetics"}
    assert set(recipes(methods=("byol", "random"), backbones=("r3d_18",), baselines=False)) == {"byol", "random"}


def test_a_cells_name_holds_method_backbone_seed_and_hash_and_no_path(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("from ssl3d_plugins.methods.byol import BYOL\nclass Mine(BYOL): ...\n")
    (cell,) = plan(methods=(f"{tmp_path}/m.py:Mine",), backbones=("timm/resnet18",), seeds=(3,), baselines=False).cells
    assert cell.name == f"Mine-timm_resnet18-s3-{cell.recipe.hash()}"


def test_an_edited_file_is_another_cell(tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    names = []
    for text in ("class Mine(BYOL): ...\n", "class Mine(BYOL): x = 1\n"):
        file.write_text("from ssl3d_plugins.methods.byol import BYOL\n" + text)
        names.append(plan(methods=(f"{file}:Mine",), baselines=False).cells[0].name)
    assert names[0] != names[1]


def test_a_preset_wins_over_defaults_and_loses_to_what_is_asked_for() -> None:
    preset = recipes(methods=("byolmed3d",))["byolmed3d"]
    assert (preset.pretrain.accumulation, preset.pretrain.optimizer, preset.pretrain.epochs) == ("plain", "lars", 100)
    assert (preset.view_size, preset.backbone_config["norm"]) == ((16, 224, 224), "batch")
    asked = recipes(
        "epochs=5", "optimizer=adamw", "view_size=[12,40,40]", "backbone.tiny.norm=group", methods=("byolmed3d",)
    )["byolmed3d"]
    assert (asked.pretrain.epochs, asked.pretrain.optimizer, asked.pretrain.accumulation) == (5, "adamw", "plain")
    assert (asked.view_size, asked.backbone_config["norm"]) == ((12, 40, 40), "group")


def test_what_is_asked_for_wins_even_where_it_is_the_default() -> None:
    assert recipes("optimizer=adamw", methods=("byolmed3d",))["byolmed3d"].pretrain.optimizer == "adamw"


def test_settings_reach_their_own_method_only() -> None:
    made = recipes("method.byol.momentum=0.5", methods=("byol", "moco"))
    assert made["byol"].method_config["momentum"] == 0.5
    assert made["moco"].method_config["momentum"] == 0.999


def test_a_recipe_holds_every_setting_of_its_method_and_backbone() -> None:
    """So that a default which changes in the code changes the hash, and a default written out does not."""
    made = recipes(methods=("byol",))["byol"]
    assert made.method_config == {"hidden_dim": 4096, "projection_dim": 256, "momentum": 0.996}
    written_out = recipes("method.byol.hidden_dim=4096", "backbone.tiny.norm=auto", methods=("byol",))["byol"]
    assert written_out.hash() == made.hash()
    assert recipes("method.byol.momentum=1", methods=("byol",)) == recipes(
        "method.byol.momentum=1.0", methods=("byol",)
    )
    assert build_method(made).config.model_dump() == made.method_config


@pytest.mark.parametrize(("plane", "axis"), [("sagittal", 0), ("coronal", 2), ("axial", 2)])
def test_flips_that_swap_left_and_right_never_happen_unasked(plane: str, axis: int) -> None:
    asked = ("flip=[0.5,0.5,0.5]", f"plane={plane}")
    flip = recipes(*asked)["byol"].augment.flip
    assert [axis for axis, chance in enumerate(flip) if chance == 0] == [axis]
    assert recipes(*asked, "flip_left_right=true")["byol"].augment.flip == (0.5, 0.5, 0.5)


def test_the_view_size_is_the_users_or_the_presets_or_the_weights_or_the_data_sets() -> None:
    made = recipes(methods=("byol", "kinetics"), backbones=("r3d_18",))
    assert made["byol"].view_size == open_dataset("demo").view_size
    assert made["kinetics"].view_size == (16, 112, 112)
    assert recipes("view_size=[9,32,33]", backbones=("r3d_18",))["kinetics"].view_size == (9, 32, 33)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ("boyl",)}, "unknown method 'boyl'; did you mean 'byol'?"),
        ({"backbones": ("tinny",)}, "unknown backbone 'tinny'; did you mean 'tiny'?"),
        ({"data.name": "dmeo"}, "unknown dataset 'dmeo'; did you mean 'demo'?"),
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
        ({"methods": ("kinetics",)}, "method 'kinetics' starts from kinetics400 weights, and backbone 'tiny' has none"),
        ({"backbones": ("mvit_base_16x4",), "view_size": (1, 8, 8)}, "view_size = (1, 8, 8) is smaller than backbone"),
    ],
)
def test_what_does_not_fit_is_told_in_one_sentence(options: dict[str, Any], message: str) -> None:
    assert refused(**options).startswith(message)


def test_a_preset_of_a_section_keeps_what_it_does_not_name() -> None:
    under, over = {"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}, "c": 4}
    assert merge(under, over) == {"a": {"x": 1, "y": 3}, "b": 1, "c": 4}
    assert under == {"a": {"x": 1, "y": 2}, "b": 1}


def test_settings_of_a_plugin_in_a_file_are_set_by_its_whole_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from ssl3d_plugins.methods.simclr import SimCLR\nclass Mine(SimCLR):\n    pass\n")
    name = f"{file}:Mine"
    experiment = read_experiment(None, {"methods": (name,), "baselines": False}, [f"method.{name}.temperature=0.5"])
    (only,) = make_plan(experiment).cells
    assert only.recipe.method_config["temperature"] == 0.5


def test_local_weights_are_part_of_a_recipe_that_starts_from_them(tmp_path: Path) -> None:
    experiment = read_experiment(None, {"methods": ("byol",), "backbones": ("r3d_18",)})
    names = []
    for content in (b"one", b"two"):
        (tmp_path / "weights.pth").write_bytes(content)
        plan = make_plan(experiment, None, tmp_path / "weights.pth")
        names.append({cell.recipe.method: cell.name for cell in plan.cells})
    assert names[0]["kinetics"] != names[1]["kinetics"]
    assert names[0]["byol"] == names[1]["byol"]


def test_a_table_without_pretrained_baselines_says_so() -> None:
    (note,) = make_plan(read_experiment(None, {"methods": ("byol",)})).notes
    assert "'tiny' has no pretrained weights" in note
    assert make_plan(read_experiment(None, {"methods": ("byol",), "backbones": ("r3d_18",)})).notes == ()


def test_an_unfinished_method_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("from ssl3d.method import Method\nclass Bad(Method):\n    card = None\n")
    with pytest.raises(PluginError, match=r"lacks loss\(\)"):
        make_plan(read_experiment(None, {"methods": (f"{tmp_path}/bad.py:Bad",)}))


def test_settings_of_what_is_not_run_are_a_note() -> None:
    experiment = read_experiment(None, {"methods": ["byol"], "method.moco.queue_size": 8, "method.byol.hidden_dim": 8})
    (note,) = (note for note in make_plan(experiment).notes if "no effect" in note)
    assert note == "settings of method 'moco' have no effect: it is not part of this run"
    experiment = read_experiment(None, {"methods": ["byol"], "method.random.x": 1, "baselines": False})
    assert any("'random' have no effect" in note for note in make_plan(experiment).notes)

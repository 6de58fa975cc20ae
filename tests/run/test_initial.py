"""Encoders that start from weights: planned, keyed, made, named in tables, and flagged where weights saw the data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from ssl3d.backbone import Weights
from ssl3d.errors import RecipeError, UserError, WeightsError
from ssl3d.experiment import read_experiment
from ssl3d.recipe import EncoderRecipe, InitialWeights
from ssl3d.results.folder import MODEL_CARD, WEIGHTS
from ssl3d.results.keys import encoder_key
from ssl3d.results.model import EncoderRecord
from ssl3d.results.read import read_results
from ssl3d.results.records import file_sha256, read_record
from ssl3d.run.planning.datasets import open_dataset
from ssl3d.run.planning.initial import overlap
from ssl3d.run.planning.plan import Plan, make_plan
from ssl3d.train.build import build_backbone
from ssl3d_plugins.backbones.r3d import R3D18
from tests.runs import Listener, encoder_folder, small_run, write_knees


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees")


@pytest.fixture(scope="module")
def first(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an encoder that an earlier run made."""
    run = tmp_path_factory.mktemp("runs") / "first"
    small_run(knees, run, controls="none", evaluate__protocols="knn")
    return encoder_folder(run, "byol") / WEIGHTS


def plan(**fields: Any) -> Plan:
    values = {name.replace("__", "."): value for name, value in fields.items()}
    return make_plan(read_experiment(None, {"seeds": [0], "controls": "none", **values}))


def recipes(made: Plan) -> dict[str, EncoderRecipe]:
    return {request.recipe.method: request.recipe for request in made.requests}


# Planning


def test_methods_that_train_start_from_the_weights_and_controls_do_not() -> None:
    controls = "random,supervised,kinetics"
    found = recipes(plan(methods=("byol",), backbones=("r3d_18",), controls=controls, init__weights="kinetics400"))
    assert found["byol"].init == InitialWeights(name="kinetics400", corpora=("kinetics400",))
    assert found["byol"].view_size == (16, 112, 112)
    assert found["kinetics"].init is not None
    assert found["random"].init is None
    assert found["supervised"].init is None


def test_the_hash_of_a_file_and_the_name_of_its_row_are_in_the_recipe_and_its_place_is_not_in_the_key(
    first: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "moved.safetensors"
    copy.write_bytes(first.read_bytes())
    sha = file_sha256(first)
    found = [recipes(plan(methods=("byol", f"pretrained:{file}"), init__weights=str(file))) for file in (first, copy)]
    row = f"pretrained:byol@{sha[:8]}"
    for one in found:
        assert set(one) == {"byol", row}
        for recipe in one.values():
            assert recipe.init is not None
            assert recipe.init.sha256 == sha
            assert recipe.init.corpora == ("mrnet",)
            assert recipe.backbone_config["norm"] == "group"  # as that encoder was trained
        assert one[row].pretrain is None
    keys = {key(one["byol"]) for one in found}
    assert len(keys) == 1
    other = found[0]["byol"].model_copy(update={"init": InitialWeights(name=str(first), sha256="0" * 64)})
    assert key(other) not in keys
    assert key(other.model_copy(update={"init": None})) not in keys


def key(recipe: EncoderRecipe) -> str:
    return encoder_key(recipe, corpus="f00d", sources={}, weights=None)


def test_the_norm_of_a_file_with_batch_statistics_is_frozen(tmp_path: Path) -> None:
    torch.save({"bn.running_mean": torch.zeros(2)}, tmp_path / "resnet.pth")
    (recipe,) = recipes(plan(methods=(f"pretrained:{tmp_path}/resnet.pth",), backbones=("r3d_18",))).values()
    assert recipe.method.startswith("pretrained:resnet@")
    assert recipe.backbone_config["norm"] == "frozen"


def test_published_weights_in_a_row_of_their_own_are_not_repeated_as_a_control() -> None:
    made = plan(methods=("pretrained:kinetics400",), backbones=("r3d_18",), controls="kinetics,random", seeds=(0, 1))
    assert {request.recipe.method for request in made.requests} == {"pretrained:kinetics400", "random"}
    assert len([one for one in made.requests if one.recipe.init is not None]) == 2  # not tripled, as untrained ones are


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"methods": ("pretrained",)}, UserError, "method 'pretrained' needs the weights to evaluate"),
        ({"methods": ("pretrained:kinetics",)}, RecipeError, "has no weights 'kinetics'; did you mean 'kinetics400'?"),
        ({"init__weights": "nothing"}, RecipeError, "correct the name, or give the path of a file"),
        ({"init__weights": "none.pth"}, WeightsError, "no such weights file: none.pth"),
        ({"init__weights": "/"}, WeightsError, "is a folder"),
    ],
)
def test_weights_that_do_not_exist_are_refused_when_planned(
    fields: dict[str, Any], kind: type[UserError], message: str
) -> None:
    with pytest.raises(kind) as error:
        plan(backbones=("r3d_18",), **fields)
    assert message in str(error.value)


def test_asked_weights_that_cannot_be_had_are_refused_before_anything_is_packed(
    knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setenv("SSL3D_WEIGHTS", str(tmp_path / "weights"))
    with pytest.raises(WeightsError, match=f"put it at {tmp_path}/weights/r3d_18-b3b3357e.pth"):
        small_run(knees, tmp_path / "run", ("pretrained:kinetics400",), backbones=("r3d_18",), view_size=[8, 32, 32])
    assert not (tmp_path / "run").exists()


def test_settings_for_files_do_not_touch_published_weights(tmp_path: Path) -> None:
    torch.save(build_backbone(EncoderRecipe(backbone="r3d_18")).state_dict(), tmp_path / "w.pth")
    fields = {"init__weights": str(tmp_path / "w.pth"), "init__prefix": "net.", "init__allow_partial": True}
    found = recipes(plan(methods=("pretrained:kinetics400", "byol"), backbones=("r3d_18",), **fields))
    published, own = found["pretrained:kinetics400"].init, found["byol"].init
    assert published == InitialWeights(name="kinetics400", corpora=("kinetics400",))
    assert own is not None
    assert (own.prefix, own.allow_partial) == ("net.", True)


@pytest.mark.parametrize("recipe", [{"corpus": "brains", "init": "x"}, {"corpus": ["a", 1], "init": {"corpora": 2}}])
def test_a_recipe_in_a_file_of_somebody_else_may_have_any_structure(tmp_path: Path, recipe: object) -> None:
    state = {key: value.contiguous() for key, value in build_backbone(EncoderRecipe()).state_dict().items()}
    save_file(state, tmp_path / "w.safetensors", {"recipe": json.dumps(recipe)})
    (found,) = recipes(plan(methods=(f"pretrained:{tmp_path}/w.safetensors",))).values()
    assert found.init is not None
    assert found.init.corpora == ()


# Overlap


def test_weights_that_saw_an_evaluated_data_set_are_flagged_by_any_of_its_names() -> None:
    lungs = open_dataset("medmnist3d:nodulemnist3d")
    for corpus in ("medmnist3d:nodulemnist3d", "NoduleMNIST3D", "LIDC-IDRI", "lidc idri"):
        said = overlap(InitialWeights(name="ssl", corpora=("other", corpus)), "medmnist3d:nodulemnist3d", lungs)
        assert said == (f"the weights ssl were pretrained on {corpus}, and may have seen test volumes of {lungs.name}")
    for init in (None, InitialWeights(name="ssl"), InitialWeights(name="ssl", corpora=("lits",))):
        assert not overlap(init, "medmnist3d:nodulemnist3d", lungs)


def test_an_overlap_is_a_note_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = replace(R3D18.weights["kinetics400"], corpora=("demo",))
    monkeypatch.setattr(R3D18, "weights", {"kinetics400": weights})
    notes = plan(methods=("byol",), backbones=("r3d_18",), init__weights="kinetics400").notes
    assert any(note.startswith("byol start from the weights kinetics400; add the weights themselves") for note in notes)
    assert any(note.startswith("the weights kinetics400 were pretrained on demo, and may have seen") for note in notes)


def test_the_input_of_weights_in_words() -> None:
    weights = Weights("https://a.org", "w.pth", (16, 96, 96), "MIT", normalisation="z-score", spacing=(1.5, 1, 1))
    assert weights.input == "16 x 96 x 96 voxels, 1.5 x 1 x 1 mm, z-score"


# A run


def test_a_run_evaluates_an_earlier_encoder_as_it_is_and_learns_on_from_it(
    knees: Path, first: Path, tmp_path: Path
) -> None:
    listener, run, row = Listener(), tmp_path / "run", f"pretrained:byol@{file_sha256(first)[:8]}"
    fields: dict[str, Any] = {"controls": "none", "evaluate__protocols": "knn", "init__weights": str(first)}
    failures = small_run(knees, run, ("simclr", f"pretrained:{first}"), listener, **fields).failures
    assert failures == {}
    kept = encoder_folder(run, "pretrained_byol*")
    assert all(torch.equal(value, load_file(first)[name]) for name, value in load_file(kept / WEIGHTS).items())
    learnt = encoder_folder(run, "simclr")
    record = read_record(learnt, EncoderRecord)
    start = build_backbone(record.recipe).state_dict()
    assert all(torch.equal(value, load_file(first)[name]) for name, value in start.items())
    share = f"matched {len(start)} of {len(start)} tensors (100%) of {WEIGHTS}"
    assert record.weights == share
    assert record.weights_sha256 == file_sha256(first)
    assert f"- pretrained weights: {share}" in (learnt / MODEL_CARD).read_text("utf-8")
    assert any(note.endswith(f"starts from {share}") for note in listener.notes)
    rows = pd.read_csv(run / "leaderboard.csv").set_index("method")
    assert set(rows.index) == {"simclr", row}
    assert f"started from {share}" in rows.loc["simclr", "note"]
    for note in rows["note"]:
        assert f"the weights {WEIGHTS} ({file_sha256(first)[:8]}) were pretrained on mrnet, and may have seen" in note
    assert len(read_results(run).evaluated) == 2
    first_again = small_run(knees, run, ("simclr", f"pretrained:{first}"), again := Listener(), **fields)
    assert first_again.failures == {}
    assert again.made == []

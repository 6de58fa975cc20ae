"""Keys: what decides an artifact makes another one of it, and nothing else does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl3d.experiment import read_experiment
from ssl3d.progress import Progress
from ssl3d.results.folder import RunFolder
from ssl3d.run.graph import Graph, make_graph
from ssl3d.run.options import Options
from ssl3d.run.planning.plan import make_plan
from ssl3d.run.volumes import pack_volumes
from tests.runs import SMALL, write_knees

OTHER = """
from ssl3d.data.sets.mrnet import MRNet


class Other(MRNet):
    @property
    def name(self):
        return f"other {self.plane}"
"""


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packed volumes that all graphs share."""
    return tmp_path_factory.mktemp("stores")


def graph(root: Path, stores: Path, weights: Path | None = None, **fields: Any) -> Graph:
    """Return the artifacts of a small experiment; dots of its fields are double underscores."""
    values = {**SMALL, "methods": ("byol",), "controls": "none"}
    values |= {name.replace("__", "."): value for name, value in fields.items()}
    experiment = read_experiment(None, values)
    names = (*experiment.data.name, *(experiment.corpus or ()))
    options = Options(roots={name: root for name in names if name != "demo"}, weights=weights, cache=stores)
    plan = make_plan(experiment, options)
    folder = RunFolder(stores / "run", stores)
    return make_graph(plan, pack_volumes(plan, folder.stores, Progress()), folder, options)


def keys(made: Graph) -> tuple[set[str], set[str], set[str]]:
    """Return the keys of encoders, features and evaluations."""
    features = {one.key for one in made.artifacts if one.kind == "features"}
    return set(made.encoders), features, set(made.evaluations)


def test_every_artifact_stands_after_what_it_is_made_from(knees: Path, stores: Path) -> None:
    made = graph(knees, stores, methods=("byol", "random"), data__task="acl,meniscus", evaluate__labels=(0.5,))
    seen: set[str] = set()
    for artifact in made.artifacts:
        assert {one.key for one in artifact.needs} <= seen
        seen.add(artifact.key)
    assert len(seen) == len(made.artifacts) == 2 * (1 + 1 + 2 * 2 * (1 + 3))
    assert len({artifact.name for artifact in made.artifacts}) == len(seen)
    assert len({artifact.label for artifact in made.artifacts}) == len(seen)


@pytest.mark.parametrize(
    "changes",
    [
        {"data__task": "meniscus"},
        {"evaluate__protocols": "finetune"},
        {"evaluate__labels": (0.5,)},
        {"evaluate__inner_folds": 3},
        {"protocol__linear__iterations": 7},
    ],
)
def test_another_evaluation_needs_no_other_encoder_or_features(
    knees: Path, stores: Path, changes: dict[str, Any]
) -> None:
    before, after = keys(graph(knees, stores)), keys(graph(knees, stores, **changes))
    assert before[0] == after[0]
    assert after[1] <= before[1]
    assert after[2] - before[2]


def test_another_batch_of_the_encoder_is_other_features_of_the_same_encoder(knees: Path, stores: Path) -> None:
    before, after = keys(graph(knees, stores)), keys(graph(knees, stores, evaluate__batch_size=3))
    assert before[0] == after[0]
    assert not before[1] & after[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"pretrain__epochs": 1},
        {"seeds": (1,)},
        {"method__byol__hidden_dim": 9},
        {"backbone__tiny__norm": "batch"},
        {"view_size": [4, 16, 18]},
        {"augment__blur": 0.1},
        {"data__plane": "axial"},
        {"data__folds": 2},
        {"corpus": "demo"},
    ],
)
def test_what_decides_an_encoder_makes_everything_below_it_anew(
    knees: Path, stores: Path, changes: dict[str, Any]
) -> None:
    before, after = keys(graph(knees, stores)), keys(graph(knees, stores, **changes))
    assert all(after)
    assert not any(first & second for first, second in zip(before, after, strict=True))


def test_a_changed_voxel_of_the_training_split_is_another_encoder_and_one_of_the_test_split_is_not(
    knees: Path, stores: Path, tmp_path: Path
) -> None:
    before = keys(graph(knees, stores))
    for split, same in (("train", False), ("valid", True)):
        root = Path(shutil.copytree(knees, tmp_path / split))
        path = next((root / split / "sagittal").glob("*.npy"))
        volume = np.load(path)
        volume[0, 0, 0] ^= 1
        np.save(path, volume)
        after = keys(graph(root, stores))
        assert (before[0] == after[0]) is same
        assert not before[1] & after[1]
        assert not before[2] & after[2]


def test_a_moved_data_set_is_the_same(knees: Path, stores: Path, tmp_path: Path) -> None:
    assert keys(graph(knees, stores)) == keys(graph(Path(shutil.copytree(knees, tmp_path / "moved")), stores))


def test_a_changed_label_is_another_evaluation_of_the_same_encoder(knees: Path, stores: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(knees, tmp_path / "relabelled"))
    table = root / "train-acl.csv"
    first, rest = table.read_text().split("\n", 1)
    table.write_text(f"{first[:-1]}{1 - int(first[-1])}\n{rest}")
    methods = ("byol", "supervised")
    before, after = graph(knees, stores, methods=methods), graph(root, stores, methods=methods)
    same = {one.recipe.method for key, one in after.encoders.items() if key in before.encoders}
    assert same == {"byol"}
    assert not set(before.evaluations) & set(after.evaluations)


def test_an_edited_plugin_or_helper_is_other_artifacts_and_touches_no_others(
    knees: Path, stores: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "mine.py").write_text("from ssl3d_plugins.methods.byol import BYOL\nclass Mine(BYOL):\n    x = 1\n")
    (folder / "probe.py").write_text(
        "from ssl3d.evaluate.protocols.linear import Linear\nclass Probe(Linear):\n    x = 1\n"
    )
    fields: dict[str, Any] = {"methods": (f"{folder}/mine.py:Mine", "random"), "controls": "none"}
    fields["evaluate__protocols"] = f"{folder}/probe.py:Probe,knn"
    before = graph(knees, stores, **fields)
    edit(folder / "probe.py")
    probed = graph(knees, stores, **fields)
    assert keys(before)[:2] == keys(probed)[:2]
    changed = {probed.evaluations[key].recipe.protocol for key in set(probed.evaluations) - set(before.evaluations)}
    assert changed == {f"{folder}/probe.py:Probe"}
    edit(folder / "mine.py")
    retrained = graph(knees, stores, **fields)
    new = set(retrained.encoders) - set(probed.encoders)
    assert [retrained.encoders[key].recipe.method for key in new] == [f"{folder}/mine.py:Mine"]
    kept = {
        probed.evaluations[key].encoder.recipe.method for key in set(probed.evaluations) & set(retrained.evaluations)
    }
    assert kept == {"random"}


def edit(file: Path) -> None:
    file.write_text(file.read_text().replace("x = 1", "x = 2"))


def test_variants_of_a_family_are_encoders_of_their_own(knees: Path, stores: Path) -> None:
    pair = ("timm/resnet18", "timm/resnet34")
    made = graph(knees, stores, methods=("random",), backbones=pair, view_size=[4, 32, 32])
    assert {encoder.recipe.backbone for encoder in made.encoders.values()} == set(pair)


def test_local_weights_decide_the_encoders_that_start_from_them(knees: Path, stores: Path, tmp_path: Path) -> None:
    found = []
    for content in (b"one", b"two"):
        (tmp_path / "weights.pth").write_bytes(content)
        fields = {"methods": ("kinetics", "random"), "backbones": ("r3d_18",), "view_size": [8, 32, 32]}
        made = graph(knees, stores, tmp_path / "weights.pth", **fields)
        found.append({encoder.recipe.method: encoder.key for encoder in made.encoders.values()})
    assert found[0]["kinetics"] != found[1]["kinetics"]
    assert found[0]["random"] == found[1]["random"]


def test_weights_that_cannot_be_had_are_a_problem_of_their_encoder_alone(
    knees: Path, stores: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL3D_WEIGHTS", str(tmp_path / "none" / "here"))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    made = graph(knees, stores, methods=("kinetics", "random"), backbones=("r3d_18",), view_size=[8, 32, 32])
    problems = {encoder.recipe.method: str(encoder.problem) for encoder in made.encoders.values()}
    assert "cannot download" in problems["kinetics"]
    assert problems["random"] == "None"


def unreachable(*_: Any, **__: Any) -> None:
    raise OSError("no route to host")


# Corpora


def test_one_encoder_of_another_corpus_serves_every_fold_and_task(knees: Path, stores: Path) -> None:
    made = graph(knees, stores, corpus="demo", data__folds=2, data__task="acl,abnormal", evaluate__protocols="knn")
    (encoder,) = made.encoders.values()
    assert len(made.evaluations) == 2 * 2
    assert encoder.corpus is not None
    assert (len(encoder.corpus), encoder.corpus.excluded) == (160, 0)


def test_volumes_that_are_tested_on_are_left_out_of_any_corpus_by_their_content(
    knees: Path, stores: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.py").write_text(OTHER)
    made = graph(knees, stores, corpus=f"{tmp_path}/other.py:Other", data__folds=2, evaluate__protocols="knn")
    assert len(made.encoders) == 2
    for encoder in made.encoders.values():
        assert encoder.corpus is not None
        assert encoder.corpus.excluded > 0
        assert len(encoder.corpus) + encoder.corpus.excluded == 12


def test_no_test_patient_of_a_fold_is_pretrained_on_in_any_plane(knees: Path, stores: Path) -> None:
    made = graph(knees, stores, data__folds=2, data__plane="sagittal,axial", evaluate__protocols="knn")
    assert len(made.encoders) == 4
    for evaluation in made.evaluations.values():
        corpus = evaluation.encoder.corpus
        assert corpus is not None
        trained = {corpus.stores[number].manifest.cases[index].patient for number, index in corpus.places}
        assert trained
        assert not trained & set(evaluation.cases.test_patients)


def test_a_part_of_a_graph_holds_what_it_is_made_from(knees: Path, stores: Path) -> None:
    made = graph(knees, stores, methods=("byol", "random"))
    key = next(iter(made.evaluations))
    assert [artifact.kind for artifact in made.only([key]).artifacts] == ["encoder", "features", "evaluation"]

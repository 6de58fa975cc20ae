"""What is there is not made again, in a run or in a cache that runs share; what is damaged is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ssl3d.audit.verify import verify
from ssl3d.experiment import read_experiment
from ssl3d.results.read import read_plan, read_results
from ssl3d.run import encoder as encoder_module
from ssl3d.run import features as features_module
from ssl3d.run.options import Options
from ssl3d.run.planning.estimate import estimates
from ssl3d.run.planning.plan import make_plan
from tests.runs import (
    SMALL,
    Listener,
    encoder_folder,
    evaluation_folder,
    left_behind,
    record,
    small_run,
    write_knees,
)


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees")


@pytest.fixture(scope="module")
def finished(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of byol on its first task."""
    out = tmp_path_factory.mktemp("runs") / "first"
    assert small_run(knees, out, controls="none").failures == {}
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretraining and encoding fail."""

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("this was done before")

    monkeypatch.setattr(encoder_module, "pretrained", never)
    monkeypatch.setattr(features_module, "extract", never)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("idle")
def test_a_second_task_of_a_run_trains_and_encodes_nothing(knees: Path, run: Path) -> None:
    assert small_run(knees, run, controls="none", data__task="acl,meniscus").failures == {}
    (encoder,) = read_plan(run).encoders.values()
    pair = [record(evaluation_folder(run, "byol", task=task), "evaluation") for task in ("acl", "meniscus")]
    assert [one["encoder"] for one in pair] == [encoder.key] * 2
    assert pair[0]["score"]["metrics"] != pair[1]["score"]["metrics"]
    assert len(list((run / "features").iterdir())) == 1


# A cache


def test_runs_share_volumes_encoders_and_features_in_a_cache(
    knees: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    cache = tmp_path / "cache"
    small_run(knees, tmp_path / "first", controls="none", cache=cache)
    assert {path.name for path in cache.iterdir()} == {"stores", "encoders", "features", "leases"}
    assert {path.name for path in (tmp_path / "first").iterdir() if path.is_dir()} == {"evaluations", "leases"}
    before = files(cache)
    request.getfixturevalue("idle")
    more: dict[str, Any] = {"evaluate__labels": (0.5,), "evaluate__draws": 2}
    assert small_run(knees, tmp_path / "second", controls="none", cache=cache, **more).failures == {}
    assert files(cache) == before
    (key,) = {one.encoder.key for one in read_results(tmp_path / "second").evaluated}
    assert key == next(iter(read_plan(tmp_path / "first").encoders))
    assert len(read_results(tmp_path / "second").evaluated) == 2 * 3


@pytest.mark.usefixtures("idle")
def test_the_cache_of_a_run_stays_its_own_whatever_a_later_call_names(knees: Path, run: Path, tmp_path: Path) -> None:
    assert small_run(knees, run, controls="none", cache=tmp_path / "cache", data__task="meniscus").failures == {}
    assert not (tmp_path / "cache").exists()
    assert read_plan(run).cache is None


def test_fresh_leaves_a_cache_alone(knees: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    cache, out = tmp_path / "cache", tmp_path / "run"
    small_run(knees, out, controls="none", cache=cache)
    before = files(cache)
    request.getfixturevalue("idle")
    listener = Listener()
    assert small_run(knees, out, controls="none", cache=cache, fresh=True, progress=listener).failures == {}
    assert files(cache) == before
    assert [label.rpartition(", ")[2] for label in listener.made] == ["linear", "knn"]


def test_an_alias_of_a_plugin_finds_the_encoder_of_a_cache(
    knees: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    cache = tmp_path / "cache"
    small_run(knees, tmp_path / "first", controls="none", cache=cache)
    request.getfixturevalue("idle")
    alias = "ssl3d_plugins.methods.byol:BYOL"
    settings: dict[str, Any] = {f"method.{alias}.hidden_dim": 8}
    outcome = small_run(knees, tmp_path / "second", (alias,), controls="none", cache=cache, **settings)
    assert outcome.failures == {}
    assert len(list((cache / "encoders").iterdir())) == 1


# Damage


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [truncated, flipped, Path.unlink])
@pytest.mark.parametrize(
    ("pattern", "made"),
    [
        ("encoders/*/encoder.safetensors", 1),
        ("encoders/*/log.csv", 1),
        ("encoders/*/encoder.json", 1),
        ("features/*/features.npz", 1),
        ("features/*/features.json", 1),
        ("evaluations/*/*linear*/predictions.csv", 1),
        ("evaluations/*/*knn*/evaluation.json", 1),
    ],
)
def test_a_damaged_or_missing_file_is_made_again_and_nothing_else(
    knees: Path, finished: Path, run: Path, damage: Callable[[Path], None], pattern: str, made: int
) -> None:
    (path,) = run.glob(pattern)
    damage(path)
    listener = Listener()
    assert small_run(knees, run, controls="none", progress=listener).failures == {}
    assert len(listener.made) == made
    assert left_behind(run) == left_behind(finished)


@pytest.mark.usefixtures("idle")
def test_a_model_card_that_was_deleted_is_written_again_and_no_damage(knees: Path, run: Path) -> None:
    card = encoder_folder(run, "byol") / "README.md"
    text = card.read_text()
    card.unlink()
    assert not [verdict for verdict in verify(run) if not verdict.sound]
    listener = Listener()
    assert small_run(knees, run, controls="none", progress=listener).failures == {}
    assert (listener.made, card.read_text()) == ([], text)
    card.write_text("edited")
    small_run(knees, run, controls="none")
    assert card.read_text() == "edited"


def test_an_encoder_that_came_out_otherwise_is_evaluated_anew(knees: Path, run: Path) -> None:
    """As on a GPU, where the same recipe may end in other last digits."""
    folder = encoder_folder(run, "byol")
    weights = folder / "encoder.safetensors"
    flipped(weights)
    content = json.loads((folder / "encoder.json").read_text())
    del content["content_sha256"]
    from ssl3d.results.model import EncoderRecord
    from ssl3d.results.records import file_sha256, write_model

    content["files"]["encoder.safetensors"] = file_sha256(weights)
    write_model(folder / "encoder.json", EncoderRecord.model_validate(content))
    listener = Listener()
    assert small_run(knees, run, controls="none", progress=listener).failures == {}
    assert listener.pretrained == []
    assert len(listener.made) == 3  # features, and two evaluations
    sha = {one.record.encoder_sha256 for one in read_results(run).evaluated}
    assert sha == {file_sha256(weights)}


# Changed inputs


def test_changed_data_take_the_place_of_what_was_made_before(knees: Path, run: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(knees, tmp_path / "changed"))
    volume = np.load(root / "train/sagittal/0003.npy")
    volume[0, 0, 0] ^= 1
    np.save(root / "train/sagittal/0003.npy", volume)
    before = set(read_plan(run).evaluations)
    listener = Listener()
    assert small_run(root, run, controls="none", progress=listener).failures == {}
    assert listener.pretrained == ["byol"]
    assert len(read_plan(run).evaluations) == len(before) == 2
    assert not before & set(read_plan(run).evaluations)
    assert list(pd.read_csv(run / "leaderboard.csv")["seeds"]) == [1, 1]


def test_an_edited_plugin_takes_the_place_of_what_it_was(knees: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    methods = (f"{file}:Mine", "random")
    for text, pretrained in (("x = 1", ["Mine"]), ("x = 1", []), ("x = 2", ["Mine"])):
        file.write_text(f"from ssl3d_plugins.methods.simclr import SimCLR\nclass Mine(SimCLR):\n    {text}\n")
        listener = Listener()
        assert small_run(knees, tmp_path / "run", methods, progress=listener).failures == {}
        assert listener.pretrained == pretrained
    board = pd.read_csv(tmp_path / "run" / "leaderboard.csv")
    assert list(board["seeds"]) == [1] * 8
    assert len(list((tmp_path / "run/encoders").glob("Mine-*"))) == 2


def test_labels_reach_methods_that_declare_them_and_the_keysays_so(knees: Path, tmp_path: Path) -> None:
    methods = ("supervised", "simclr")
    outcome = small_run(knees, tmp_path / "run", methods, controls="none", data__task="acl,meniscus")
    assert outcome.failures == {}
    found = [(one.encoder.recipe.method, one.encoder.recipe.task, one.record.recipe.task, one.encoder.labels_used)
             for one in read_results(outcome.folder).evaluated]  # fmt: skip
    assert set(found) == {
        ("supervised", "acl", "acl", True), ("supervised", "meniscus", "meniscus", True),
        ("simclr", None, "acl", False), ("simclr", None, "meniscus", False),
    }  # fmt: skip


# Estimates


def test_what_is_complete_costs_nothing_and_a_dry_run_writes_nothing(
    knees: Path, finished: Path, tmp_path: Path
) -> None:
    fields = {**SMALL, "methods": ("byol", "random"), "seeds": (0, 1), "controls": "none", "data.task": "acl,meniscus"}

    def priced(run: Path) -> list[tuple[str, int, bool, str]]:
        options = Options(roots={"mrnet": knees}, out=run, device="cpu")
        rows = estimates(make_plan(read_experiment(None, fields), options), options)
        return [(row["method"], row["seed"], row["steps"] > 0, row["note"]) for row in rows]

    assert priced(tmp_path / "run") == [
        ("byol", 0, True, ""), ("byol", 1, True, ""),
        ("random", 0, False, "evaluated only"), ("random", 1, False, "evaluated only"),
    ]  # fmt: skip
    assert not (tmp_path / "run").exists()
    copied = Path(shutil.copytree(finished, tmp_path / "copied"))
    assert priced(copied)[:2] == [("byol", 0, False, "complete"), ("byol", 1, True, "")]
    assert files(copied) == files(finished)

"""Encoders and features that are there are not made again; what decides them is looked at."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssl3d.cli import run as command
from ssl3d.errors import RunError
from ssl3d.experiment import read_experiment
from ssl3d.results.records import CellResult, read_result
from ssl3d.run import features as features_module
from ssl3d.run import pretraining
from ssl3d.run.estimate import estimates
from ssl3d.run.features import read_features, write_features
from ssl3d.run.options import Options
from ssl3d.run.plan import make_plan
from tests.runs import SMALL, Listener, arguments, cell_folder, small_run, write_knees

MORE = {"evaluate__labels": (0.5,), "evaluate__draws": 2}


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees")


@pytest.fixture(scope="module")
def finished(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of byol on its first task."""
    out = tmp_path_factory.mktemp("runs") / "first"
    assert small_run(knees, out, baselines=False).failures == {}
    return out


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Pretraining and encoding fail."""

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("this was done before")

    monkeypatch.setattr(pretraining, "pretrain", never)
    monkeypatch.setattr(features_module, "extract", never)
    return monkeypatch


def results(run: Path) -> dict[str, CellResult]:
    """Results of a run by task."""
    found = [read_result(path.parent)[0] for path in run.glob("cells/*/result.json")]
    return {str(result.recipe.data.task): result for result in found}


def same_record(a: CellResult, b: CellResult) -> bool:
    names = ("exactness", "departures", "engine", "collapse", "price", "notes", "features")
    return all(getattr(a, name) == getattr(b, name) for name in names)


@pytest.mark.usefixtures("idle")
def test_a_second_task_of_a_run_trains_and_encodes_nothing(knees: Path, finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    assert small_run(knees, run, baselines=False, data__task="acl,meniscus").failures == {}
    found = results(run)
    assert found["meniscus"].encoder_from == found["acl"].cell
    assert found["acl"].encoder_from is None
    assert same_record(found["acl"], found["meniscus"])
    assert found["acl"].scores != found["meniscus"].scores
    folders = [run / "cells" / found[task].cell for task in ("acl", "meniscus")]
    for name in ("encoder.safetensors", "log.csv"):
        first, second = ((folder / name).read_bytes() for folder in folders)
        assert first == second
    assert len(list((run / "features").iterdir())) == 1


def test_an_encoder_that_is_or_will_be_there_is_priced_at_nothing(knees: Path, finished: Path, tmp_path: Path) -> None:
    fields = {**SMALL, "methods": ("byol",), "seeds": (0, 1), "baselines": False, "data.task": "acl,meniscus"}
    plan = make_plan(read_experiment(None, fields), knees)

    def priced(run: Path, *encoders: Path) -> dict[tuple[int, str], tuple[bool, str]]:
        rows = estimates(plan, run, Options(root=knees, device="cpu", encoders=encoders))
        tasks = (str(cell.recipe.data.task) for cell in plan.cells)
        return {(row["seed"], task): (row["steps"] > 0, row["note"]) for row, task in zip(rows, tasks, strict=True)}

    name = results(finished)["acl"].cell
    alone, helped, there = priced(tmp_path / "a"), priced(tmp_path / "a", finished), priced(finished)
    assert [alone[seed, task][0] for seed in (0, 1) for task in ("acl", "meniscus")] == [True, False, True, False]
    assert alone[0, "meniscus"][1] == f"encoder of {name}"
    assert helped[0, "acl"] == helped[0, "meniscus"] == (False, f"encoder of first/cells/{name}")
    assert helped[1, "acl"][0]
    assert (there[0, "acl"][1], there[0, "meniscus"][1]) == ("has a result", f"encoder of {name}")
    assert not (tmp_path / "a").exists()


@pytest.mark.usefixtures("idle")
def test_the_same_cell_in_another_run_is_judged_again_without_training(
    knees: Path, finished: Path, tmp_path: Path
) -> None:
    assert small_run(knees, tmp_path / "run", baselines=False, encoders=(finished,)).failures == {}
    (there,), (here,) = results(finished).values(), results(tmp_path / "run").values()
    assert (here.cell, here.encoder_from) == (there.cell, f"first/cells/{there.cell}")
    assert [score.metrics for score in here.scores.values()] == [score.metrics for score in there.scores.values()]


@pytest.mark.usefixtures("idle")
def test_another_run_is_judged_with_the_encoders_that_it_names(knees: Path, finished: Path, tmp_path: Path) -> None:
    told = Listener()
    outcome = small_run(knees, tmp_path / "second", baselines=False, encoders=(finished,), progress=told, **MORE)
    assert outcome.failures == {}
    (there,), (here,) = results(finished).values(), results(tmp_path / "second").values()
    assert here.encoder_from == f"first/cells/{there.cell}"
    assert any(f"its encoder is that of first/cells/{there.cell}" in note for note in told.notes)
    assert same_record(there, here)
    assert there.scores["linear"].metrics == here.scores["linear"].metrics
    assert [point.condition for point in here.curve] == [
        "labels=0.5 draw=0", "labels=0.5 draw=0", "labels=0.5 draw=1", "labels=0.5 draw=1",
    ]  # fmt: skip
    (own,), (other,) = ((run / "features").iterdir() for run in (tmp_path / "second", finished))
    assert (own.name, own.read_bytes()) == (other.name, other.read_bytes())


def test_a_cell_keeps_its_encoder_when_the_run_that_it_came_from_is_gone(
    knees: Path, finished: Path, tmp_path: Path
) -> None:
    donor = Path(shutil.copytree(finished, tmp_path / "donor"))
    small_run(knees, tmp_path / "second", baselines=False, encoders=(donor,), **MORE)
    before = (cell_folder(donor, "byol") / "encoder.safetensors").read_bytes()
    shutil.rmtree(donor)
    assert (cell_folder(tmp_path / "second", "byol") / "encoder.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"pretrain__epochs": 1},
        {"seeds": (1,)},
        {"method.byol.hidden_dim": 9},
        {"view_size": [4, 16, 18]},
        {"augment__blur": 0.1},
        {"data__plane": "axial"},
        {"data__folds": 2},
    ],
)
def test_an_encoder_of_another_recipe_is_not_taken(
    knees: Path, finished: Path, tmp_path: Path, idle: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    changes = {name.replace(".", "__"): value for name, value in changes.items()}
    outcome = small_run(knees, tmp_path / "run", baselines=False, encoders=(finished,), **changes)
    assert outcome.failures
    assert all("this was done before" in reason for reason in outcome.failures.values())


def test_an_encoder_of_other_data_is_not_taken(
    knees: Path, finished: Path, tmp_path: Path, idle: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(knees, tmp_path / "changed"))
    volume = np.load(root / "train/sagittal/0003.npy")
    volume[0, 0, 0] ^= 1
    np.save(root / "train/sagittal/0003.npy", volume)
    outcome = small_run(root, tmp_path / "run", baselines=False, encoders=(finished,))
    assert all("this was done before" in reason for reason in outcome.failures.values())
    assert outcome.failures


def test_a_folder_that_is_no_run_is_refused_before_anything_runs(knees: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"knees is not a run folder \(it has no plan.json\)"):
        small_run(knees, tmp_path / "run", encoders=(knees,))
    assert not (tmp_path / "run").exists()


def test_a_damaged_result_of_a_named_run_is_told_before_anything_runs(
    knees: Path, finished: Path, tmp_path: Path
) -> None:
    donor = Path(shutil.copytree(finished, tmp_path / "donor"))
    (cell_folder(donor, "byol") / "result.json").write_text("{")
    with pytest.raises(RunError, match=r"result.json is damaged"):
        small_run(knees, tmp_path / "run", encoders=(donor,))
    assert not (tmp_path / "run").exists()


def test_an_encoder_that_was_changed_since_is_not_judged(knees: Path, finished: Path, tmp_path: Path) -> None:
    donor = Path(shutil.copytree(finished, tmp_path / "donor"))
    path = cell_folder(donor, "byol") / "encoder.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    outcome = small_run(knees, tmp_path / "run", baselines=False, encoders=(donor,))
    (reason,) = outcome.failures.values()
    assert reason == f"{path} was changed after it was written (its hash differs); run that cell again"


def test_results_of_the_version_before_give_their_encoders_too(
    knees: Path, finished: Path, tmp_path: Path, idle: pytest.MonkeyPatch
) -> None:
    """A result as version 1 wrote it: other names for the folds, none for what is new."""
    donor = Path(shutil.copytree(finished, tmp_path / "donor"))
    path = cell_folder(donor, "byol") / "result.json"
    content = json.loads(path.read_text()) | {"schema_version": 1}
    for name in ("curve", "encoder_from", "features", "engine", "content_sha256"):
        del content[name]
    for name in ("keep", "channels_last", "compile"):
        del content["recipe"]["pretrain"][name]
    for name in ("folds", "fold"):
        del content["recipe"]["data"][name]
    evaluate = content["recipe"]["evaluate"]
    content["recipe"]["evaluate"] = {"protocols": evaluate["protocols"], "folds": evaluate["inner_folds"]}
    path.write_text(json.dumps(content | {"content_sha256": content_hash(content)}))
    idle.undo()
    idle.setattr(pretraining, "pretrain", None)
    assert small_run(knees, tmp_path / "run", baselines=False, encoders=(donor,), **MORE).failures == {}


def content_hash(content: dict[str, Any]) -> str:
    import hashlib

    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


# Features


def test_features_that_are_damaged_or_another_encoders_are_made_again(
    knees: Path, finished: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (path,) = (run / "features").iterdir()
    sound = path.read_bytes()
    for content in (sound[:-9], b"", b"PK\x03\x04", sound[:200] + b"\x00" + sound[201:]):
        path.write_bytes(content)
        (cell_folder(run, "byol") / "result.json").unlink()
        assert small_run(knees, run, baselines=False).failures == {}
        assert path.read_bytes() == sound
    foreign = path.with_name("0" * 16 + ".npz")
    foreign.write_bytes(sound)
    assert read_features(path, ["another"]) is None
    with np.load(path, allow_pickle=False) as arrays:
        ids = arrays["ids"].tolist()
    assert len(ids) == 20  # every volume, of either split
    assert read_features(path, ids, 128) is not None
    assert read_features(path, ids, 127) is None
    assert read_features(path, ids[::-1]) is None
    assert read_features(foreign, ids) is None  # not what its name says


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_of_features_with_a_changed_byte_is_right_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    x, ids = np.arange(12, dtype=np.float32).reshape(3, 4), ["0001", "0002", "ä"]
    path = tmp_path / "0123456789abcdef.npz"
    write_features(path, ids, x)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content[: data.draw(st.sampled_from([len(content), place]))]))
    found = read_features(path, ids)
    assert found is None or np.array_equal(found, x)


def test_fresh_deletes_features_and_leaves_foreign_files(knees: Path, finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (own,) = (run / "features").iterdir()
    (run / "features/mine.npz").write_text("mine")
    small_run(knees, run, ("random",), baselines=False, fresh=True)
    assert not own.exists()
    assert (run / "features/mine.npz").read_text() == "mine"


# The command line


def test_shares_and_encoders_are_options_of_the_command(
    knees: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], idle: pytest.MonkeyPatch
) -> None:
    more = ["--labels=0.5,1", "--imbalance=0.5,0.25", f"--encoders={finished}", "--set=evaluate.draws=1"]
    line = [*arguments(knees, tmp_path / "run", "--quiet", "--no-baselines", *more)]
    assert command(line) == 0
    (result,) = results(tmp_path / "run").values()
    assert {point.condition for point in result.curve} == {
        "labels=0.5 draw=0", "positives=0.5 draw=0", "positives=0.25 draw=0",
    }  # fmt: skip
    capsys.readouterr()
    assert command(["bench", "--labels=half"]) == 2
    assert "'half' is not a list of numbers" in capsys.readouterr().err
    assert command(["bench", "--labels=1.5"]) == 2
    assert "evaluate.labels.0 = 1.5: input should be less than or equal to 1" in capsys.readouterr().err

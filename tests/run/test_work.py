"""Workers of a planned run: what they make, whatever their number, is what one run makes."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pandas as pd
import pytest

from ssl3d.cli import run as command
from ssl3d.errors import RunError
from ssl3d.results.lease import Leases
from ssl3d.results.model import FailureRecord
from ssl3d.results.read import read_plan, read_results
from ssl3d.results.records import write_model
from ssl3d.run.graph import Graph
from ssl3d.run.options import Options
from ssl3d.run.planning.plan_of_run import plan_of_run
from ssl3d.run.volumes import open_packed
from ssl3d.run.work import WorkOptions, work
from tests.runs import Listener, arguments, finish, left_behind, small_run, start, write_knees

CPU = Options(device="cpu")
RICH = {  # every kind of artifact and of subset
    "methods": ("byol", "random"),
    "controls": "none",
    "evaluate.protocols": ["linear"],
    "evaluate.labels": [0.5],
    "evaluate.imbalance": [0.5],
    "evaluate.draws": 1,
    "pretrain.epochs": 1,
}


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees")


@pytest.fixture(scope="module")
def finished(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(knees, tmp_path_factory.mktemp("runs") / "run", **RICH).folder


@pytest.fixture(scope="module")
def template(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is planned and packed, and nothing else: copy it before working on it."""
    out = small_run(knees, tmp_path_factory.mktemp("runs") / "planned", jobs=0, **RICH).folder
    assert not (out / "encoders").exists()
    return out


@pytest.fixture
def planned(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "run"))


def test_one_worker_of_a_planned_run_leaves_what_a_run_leaves(planned: Path, finished: Path) -> None:
    listener = Listener()
    assert work(planned, CPU, progress=listener).failures == {}
    assert left_behind(planned) == left_behind(finished)
    boards = [pd.read_csv(run / "leaderboard.csv")["auc"] for run in (planned, finished)]
    assert (boards[0] == boards[1]).all()
    assert not list(planned.glob("leases/*"))
    again = Listener()
    work(planned, CPU, progress=again)
    assert again.made == []


def test_without_waiting_a_worker_leaves_what_others_hold(planned: Path, finished: Path) -> None:
    (byol,) = [key for key, encoder in read_plan(planned).encoders.items() if encoder.recipe.method == "byol"]
    lease = Leases(planned / "leases").acquire(byol)
    assert lease is not None
    work(planned, CPU, WorkOptions(wait=False, tables=False))
    assert not (planned / "leaderboard.csv").exists()
    left = read_results(planned)
    assert {one.encoder for one in left.pending} == {byol}
    assert len(left.evaluated) == len(left.pending)
    threading.Timer(0.2, lease.release).start()
    work(planned, CPU)
    assert left_behind(planned) == left_behind(finished)


def test_what_has_failed_is_tried_again_on_request_alone(planned: Path, finished: Path) -> None:
    (byol,) = [one for one in read_plan(planned).encoders.values() if one.recipe.method == "byol"]
    failure = FailureRecord(kind="encoder", key=byol.key, name=byol.name, reason="no luck", finished_at="now")
    (planned / "encoders" / byol.name).mkdir(parents=True)
    write_model(planned / "encoders" / byol.name / "failure.json", failure)
    assert list(work(planned, CPU).failures.values()) == ["no luck"]
    failed = read_results(planned).failed
    assert {one.encoder.key for one in failed} == {byol.key}
    assert {one.reason for one in failed} == {"no luck"}
    assert work(planned, CPU, WorkOptions(retry=True)).failures == {}
    assert left_behind(planned) == left_behind(finished)


def test_code_that_a_plan_names_by_file_is_run_on_request_alone(knees: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from ssl3d_plugins.methods.controls import Random\n\n\nclass Mine(Random):\n    '''Mine.'''\n")
    run = small_run(knees, tmp_path / "run", (f"{file}:Mine",), controls="none", jobs=0).folder
    with pytest.raises(RunError, match=r"method 'Mine' .*allow it with --allow-code"):
        work(run, CPU)
    assert work(run, CPU, WorkOptions(allow_code=True, tables=False)).failures == {}
    assert len(read_results(run).evaluated) == 2


def test_artifacts_that_would_have_other_keys_are_left_out(planned: Path) -> None:
    record = read_plan(planned)
    (byol,) = [one for one in record.encoders.values() if one.recipe.method == "byol"]
    lost = byol.model_copy(update={"key": "0123456789abcdef"})  # as if the method had been edited since
    encoders = {key: one for key, one in record.encoders.items() if one is not byol}
    of_others = {key: one for key, one in record.evaluations.items() if one.encoder != byol.key}
    both = {"encoders": {**encoders, lost.key: lost}, "evaluations": of_others}
    write_model(planned / "plan.json", record.model_copy(update=both))
    listener = Listener()
    work(planned, CPU, WorkOptions(tables=False), listener)
    assert [note[:29] for note in listener.notes] == ["1 of 5 planned artifacts are "]
    assert len(read_results(planned).evaluated) == len(of_others)
    write_model(planned / "plan.json", record.model_copy(update={"encoders": {lost.key: lost}, "evaluations": {}}))
    with pytest.raises(RunError, match="is not planned yet"):
        work(planned, CPU)


def test_folds_planes_and_rates_are_planned_again_with_their_keys(knees: Path, tmp_path: Path) -> None:
    changes = {"data.plane": "all", "data.folds": 2, "data.task": "all", "pretrain.tune_lr": [0.5, 1.0]}
    run = small_run(knees, tmp_path / "run", ("byol", "supervised"), jobs=0, seeds=[0, 1], **changes).folder
    record = read_plan(run)
    graph = graph_of(run)
    assert {*record.encoders, *record.rates, *record.evaluations} <= {one.key for one in graph.artifacts}
    assert graph.rates.keys() == record.rates.keys()


def graph_of(run: Path) -> Graph:
    """The artifacts of plan.json, without making any."""
    from ssl3d.results.read import open_run
    from ssl3d.run.graph import make_graph

    plan, folder = plan_of_run(read_plan(run)), open_run(run)
    volumes = open_packed(plan, folder.stores)
    assert volumes is not None
    return make_graph(plan, volumes, folder, CPU)


# Several processes


@pytest.mark.slow
def test_jobs_leave_what_one_worker_leaves(knees: Path, finished: Path, tmp_path: Path) -> None:
    changes = {name: value for name, value in RICH.items() if name != "methods"}
    line = arguments(knees, tmp_path / "run", "--json", "--jobs=2", methods="byol,random", **changes)
    code, out, err = finish(start("ssl3d", *line))
    assert code == 0, err
    events = [json.loads(text) for text in out.splitlines()]
    made = [one["artifact"] for one in events if one["event"] == "finished" and one["outcome"] != "done before"]
    assert sorted(made) == sorted(next(one for one in events if one["event"] == "run")["artifacts"])
    assert {one["worker"] for one in events if one["event"] == "started"} == {1, 2}
    assert left_behind(tmp_path / "run") == left_behind(finished)
    assert not list((tmp_path / "run").glob("leases/*"))


def test_a_folder_that_is_no_planned_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["work", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err

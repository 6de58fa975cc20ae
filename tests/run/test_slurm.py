"""Workers under Slurm: what is submitted; and, on a cluster of our own, what happens to jobs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssl3d.cli import run as command
from ssl3d.errors import RecipeError
from ssl3d.results.model import PlannedEncoder
from ssl3d.results.read import read_plan
from ssl3d.run.launch.settings import LauncherSettings, read_launcher
from ssl3d.run.launch.slurm import parameters, submit
from ssl3d.run.status import read_status
from tests.run.slurm_cluster import Cluster, cluster, missing, until
from tests.runs import arguments, finish, left_behind, small_run, start, write_knees

LONG = {"pretrain.epochs": 100, "controls": "none", "evaluate.protocols": ["linear"]}


def test_the_launcher_section_is_read_and_decides_no_number(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(
        "methods = ['random']\n[launcher]\npartition = 'gpu'\nminutes = 30\n[launcher.environment]\nA = 'b c'\n"
    )
    found = read_launcher(file, ["launcher.cpus=4", "lr=1", "launcher.further.nice=10"])
    assert found == LauncherSettings(
        partition="gpu", minutes=30, cpus=4, environment={"A": "b c"}, further={"nice": 10}
    )
    given = parameters(found)
    assert (given["time"], given["cpus_per_task"], given["partition"]) == (30, 4, "gpu")
    assert given["setup"][1:] == ["export OMP_NUM_THREADS=4", "export A='b c'"]
    assert given["additional_parameters"] == {"requeue": True, "nice": 10}
    with pytest.raises(RecipeError, match=r"unknown field 'launcher.minute'; did you mean 'minutes'"):
        read_launcher(None, ["launcher.minute=1"])


def test_a_name_that_is_no_variable_never_reaches_a_shell() -> None:
    assert read_launcher(None, ['launcher.environment={HF_HOME="/x y"}']).environment == {"HF_HOME": "/x y"}
    with pytest.raises(RecipeError, match=r"launcher\.environment"):
        read_launcher(None, ['launcher.environment={"A=1; B"="x"}'])


def test_a_dry_run_prints_what_would_be_submitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("[launcher]\naccount = 'knees'\n")
    knees = write_knees(tmp_path / "knees", (4, 2))
    more = (f"--recipe={file}", "--launcher=slurm", "--jobs=3", "--dry-run", "--set=launcher.gpus=1", "--json")
    line = arguments(knees, tmp_path / "run", *more, methods="random", controls="none")
    assert command(line) == 0
    plan, submission = (json.loads(text) for text in capsys.readouterr().out.splitlines())
    assert plan["event"] == "plan"
    assert (submission["jobs"], submission["account"], submission["gpus_per_node"]) == (3, "knees", 1)
    assert f" work {tmp_path / 'run'} --device cpu" in submission["command"]
    assert not (tmp_path / "run").exists()


def test_a_dry_run_needs_no_device_of_the_workers_and_shows_that_code_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text("from ssl3d_plugins.methods.controls import Random\nclass Mine(Random): pass\n")
    more = ("--launcher=slurm", "--dry-run", "--device=cuda:7", "--json")
    knees = write_knees(tmp_path / "knees", (4, 2))
    line = arguments(knees, tmp_path / "run", *more, methods=f"{tmp_path}/mine.py:Mine", controls="none")
    assert command([text for text in line if text != "--device=cpu"]) == 0
    submission = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "--device cuda:7 --allow-code" in submission["command"]


def test_without_slurm_the_launcher_says_what_is_missing_before_it_packs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(RecipeError, match="needs submitit"):
        submit(tmp_path, ["true"], 1, LauncherSettings())
    assert command(["bench", f"--out={tmp_path}/run", "--launcher=slurm"]) == 2
    assert "needs submitit" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# On a cluster


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if missing():
        pytest.skip(missing())
    with cluster(tmp_path_factory.mktemp("slurm")) as here:
        yield here


def planned(run: Path) -> list[PlannedEncoder]:
    """Return the encoders of a run."""
    return list(read_plan(run).encoders.values())


def training(run: Path) -> int:
    """Return the steps of the pretraining that is going on; 0 if none is."""
    doing = (one.doing for one in read_status(run).running)
    return max((one.get("done", 0) for one in doing if one.get("phase") == "pretraining"), default=0)


@pytest.mark.slow
def test_jobs_that_are_signalled_preempted_drained_and_cancelled_end_with_the_same_numbers(
    slurm: Cluster, tmp_path: Path
) -> None:
    knees, run = write_knees(tmp_path / "knees"), tmp_path / "run"
    line = arguments(knees, run, "--launcher=slurm", "--jobs=2", "--json", "--set=launcher.partition=low", **LONG)
    code, out, err = finish(start("ssl3d", *line, **slurm.environment))
    assert code == 0, err
    jobs = json.loads(out.splitlines()[-1])["jobs"]
    (checkpoint,) = {run / "encoders" / one.name / "checkpoint.pt" for one in planned(run)}

    until(lambda: training(run) > 0)  # as at the time limit
    slurm("scancel", "--signal=USR2", *jobs)
    until(lambda: slurm.states() == ["PENDING"] * 2)
    assert checkpoint.is_file()

    slurm("scontrol", "update", f"nodename={slurm.host}", "state=drain", "reason=test")
    slurm.go_on(*jobs)
    slurm("scontrol", "update", f"nodename={slurm.host}", "state=resume")
    until(lambda: training(run) > 0)
    slurm("sbatch", "--partition=high", "--ntasks=2", "--output=/dev/null", "--wrap=sleep 1")
    until(lambda: not read_status(run).running and slurm.states() == ["PENDING"] * 2)

    slurm.go_on(*jobs)
    until(lambda: training(run) > 0)
    slurm("scancel", jobs[0])
    until(lambda: not slurm.states())
    assert all(read_status(run).done[kind] == count for kind, count in read_status(run).planned.items())
    assert left_behind(run) == left_behind(small_run(knees, tmp_path / "alone", **LONG).folder)

"""One run by several processes: the command as a user gives it, end to end, against one process."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.multiprocessing.spawn import spawn

from ssl3d.errors import RecipeError
from ssl3d.run.devices import open_device
from ssl3d.run.options import Options
from ssl3d.run.processes import check_devices
from ssl3d.run.rank import leads, slurm_tasks
from ssl3d.train.processes import Group
from ssl3d.train.tuning.memory import out_of_memory
from tests.runs import arguments, encoder_folder, evaluation_folder, finish, record, small_run, start, write_knees

CHANGES: dict[str, Any] = {
    "pretrain.precision": "64-true",
    "pretrain.batch_size": 6,
    "pretrain.micro_batch": 2,
    "pretrain.epochs": 3,
}
BREAKS = """
from ssl3d_plugins.methods.simclr import SimCLR
from ssl3d.train.processes import Group


class Breaks(SimCLR):
    def online(self, view, rows):
        if Group.current().rank == 1:
            raise ValueError("no view today")
        return super().online(view, rows)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("knees"), cases=(13, 8))


@pytest.fixture(scope="module")
def alone(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    small_run(root, out, ("byol", "moco"), **{name.replace(".", "__"): value for name, value in CHANGES.items()})
    return out


def assert_same(first: Path, second: Path, methods: tuple[str, ...] = ("byol", "moco", "random")) -> None:
    """Encoders are equal to rounding in float64, and then kept in float32; predictions follow."""
    for method in methods:
        a, b = encoder_folder(first, method), encoder_folder(second, method)
        one, other = load_file(a / "encoder.safetensors"), load_file(b / "encoder.safetensors")
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-6, atol=1e-8, msg=f"{method} {name}")
        tables = [pd.read_csv(evaluation_folder(run, method) / "predictions.csv") for run in (first, second)]
        assert (tables[0]["case"] == tables[1]["case"]).all()
        if method != "random":
            logs = [pd.read_csv(folder / "log.csv").drop(columns="volumes_per_second") for folder in (a, b)]
            pd.testing.assert_frame_equal(logs[0], logs[1], rtol=1e-7)


def engine(run: Path, method: str) -> dict[str, Any]:
    found: dict[str, Any] = record(encoder_folder(run, method), "encoder")["engine"]
    return found


def test_two_processes_end_in_the_encoders_of_one(root: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    more = ("--devices=2",)
    code, printed, err = finish(start("ssl3d", *arguments(root, out, *more, methods="byol,moco", **CHANGES)))
    assert code == 0, err
    assert printed.count("moco on tiny, seed 0, pretrained on mrnet sagittal: pretrained in") == 1
    assert "leaderboard.csv" in printed
    assert_same(alone, out)
    assert engine(out, "byol")["processes"] == 2
    assert engine(alone, "byol")["processes"] == 1


@pytest.mark.slow
def test_processes_that_torchrun_starts_join_the_run(root: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "ssl3d")
    code, printed, err = finish(start(*launcher, *arguments(root, out, methods="byol,moco", **CHANGES)))
    assert code == 0, err
    assert printed.count("Tables: ") == 1, "the first process alone reports"
    assert_same(alone, out)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_processes_and_the_run_goes_on_to_the_same_end(
    root: Path, alone: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "run"
    line = ("ssl3d", *arguments(root, out, "--devices=2", "--json", methods="byol,moco", **CHANGES))
    process = start(*line)
    assert process.stdout is not None
    for text in process.stdout:
        if json.loads(text).get("epoch") == 2:
            process.send_signal(number)
            break
    code, _, err = finish(process)
    assert code == 130, err
    assert "Traceback" not in err
    assert (encoder_folder(out, "byol") / "checkpoint.pt").exists()
    code, _, err = finish(start(*line))
    assert code == 0, err
    assert_same(alone, out)


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_run_with_a_sentence(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start("ssl3d", *arguments(root, out, "--devices=2", "--json", **{**CHANGES, "pretrain.epochs": 500}))
    assert process.stdout is not None
    for text in process.stdout:
        if json.loads(text)["event"] == "progress" and "loss" in json.loads(text):
            break
    (victim,) = [pid for pid, rank in ranks(process.pid).items() if rank == "1"]
    os.kill(victim, signal.SIGKILL)
    code, _, err = finish(process)
    assert code == 2, err
    assert "was ended by signal SIGKILL" in err
    assert "Traceback" not in err
    time.sleep(0.5)
    assert not ranks(process.pid), "no process is left behind"


def ranks(parent: int) -> dict[int, str]:
    """Ranks of the processes that a process has started, by their numbers."""
    found: dict[int, str] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(status.read_text().rpartition(")")[2].split()[1]) != parent:
                continue
            command = (status.parent / "cmdline").read_text()
        except OSError:
            continue
        if "spawn_main" in command:
            found[int(status.parent.name)] = str(len(found))
    return found


@pytest.mark.slow
def test_an_encoder_that_fails_in_one_process_is_recorded_and_the_others_go_on(root: Path, tmp_path: Path) -> None:
    plugin, out = tmp_path / "breaks.py", tmp_path / "run"
    plugin.write_text(BREAKS)
    line = arguments(root, out, "--devices=2", methods=f"{plugin}:Breaks,moco", **CHANGES)
    code, _, err = finish(start("ssl3d", *line))
    assert code == 1, err
    assert "process 1 of 2: ValueError: no view today" in record(encoder_folder(out, "Breaks"), "failure")["reason"]
    assert engine(out, "moco")["processes"] == 2


@pytest.mark.parametrize(
    ("environment", "tasks", "first"),
    [
        ({}, 1, True),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, 1, True),  # a batch script, which did not say srun
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}, 4, True),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, 4, False),
        ({"RANK": "1", "WORLD_SIZE": "2"}, 1, False),
    ],
)
def test_the_first_process_is_known_from_what_its_launcher_says(
    environment: dict[str, str], tasks: int, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (slurm_tasks(), leads()) == (tasks, first)


@pytest.mark.slow
def test_processes_start_within_a_slurm_job_of_one_task(root: Path, tmp_path: Path) -> None:
    slurm = {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_ID": "7"}
    line = arguments(root, tmp_path / "run", "--devices=2", "--controls=none", **{**CHANGES, "pretrain.epochs": 1})
    code, _, err = finish(start("ssl3d", *line, **slurm))
    assert code == 0, err
    assert engine(tmp_path / "run", "byol")["processes"] == 2


def exhaust(rank: int, folder: str, kinds: tuple[str, str]) -> None:
    """One of two processes: runs out of memory, or fails otherwise, and says what it raised."""
    errors = {
        "memory": torch.OutOfMemoryError("no room"),
        "host": RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        "other": ValueError("no view"),
        "": None,
    }
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        with Group.current().together():
            if error := errors[kinds[rank]]:
                raise error
        said = "nothing"
    except Exception as error:
        said = f"{out_of_memory(error)} {error}"
    Path(folder, f"{rank}.txt").write_text(said)
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("kinds", "memory", "said"),
    [
        (("memory", ""), True, "no room"),
        pytest.param(("", "host"), True, "DefaultCPUAllocator", marks=pytest.mark.slow),
        pytest.param(("memory", "other"), False, "no view", marks=pytest.mark.slow),
        pytest.param(("other", ""), False, "no view", marks=pytest.mark.slow),
    ],
)
def test_a_failure_is_of_one_kind_in_every_process(
    tmp_path: Path, kinds: tuple[str, str], memory: bool, said: str
) -> None:
    spawn(exhaust, (str(tmp_path), kinds), nprocs=2)  # type: ignore[no-untyped-call]
    for rank in range(2):
        found = (tmp_path / f"{rank}.txt").read_text()
        assert found.startswith(f"{memory} "), found
        assert said in found


@pytest.mark.slow
def test_bad_input_is_reported_once_and_leaves_nothing(root: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("not a run")
    code, printed, err = finish(start("ssl3d", *arguments(root, tmp_path / "run", "--devices=2")))
    assert code == 2
    assert err.count("holds other files (mine.txt)") == 1
    assert "Traceback" not in printed + err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(devices=0), "--devices 0: at least one is needed"),
        (Options(device="cuda:1", devices=2), "names one GPU; with --devices 2 say cuda"),
        (Options(device="cuda", devices=99), r"--devices 99: torch sees \d+ GPUs"),
        (Options(device="cpu", devices=9), "--devices 9: an effective batch of 8 volumes has none for some"),
    ],
)
def test_devices_that_are_not_there_are_refused(options: Options, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        check_devices(options, batch_size=8)


def test_more_processes_than_a_cpu_can_hold_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"--devices 100000: a CPU runs \d+ processes at most"):
        check_devices(Options(device="cpu", devices=100_000), batch_size=None)


def test_a_machine_with_slurm_is_no_reason_for_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "srun").write_text("")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    open_device("cpu", "32-true")  # Lightning warns that srun is not used; warnings are errors here
